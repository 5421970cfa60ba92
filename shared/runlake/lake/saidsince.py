"""What was said of runs since the workers went on without one of them, whose journal comes back now.

The order of the log says what a run is now. What comes back has lost its place in it, and would count as said last: so
what was said since has to be known.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import duckdb

from runlake.fields import CHANGE_FIELDS
from runlake.lake.duck import quote
from runlake.sqlfile import load_queries

_SQL = load_queries("runlake.lake", "saidsince.sql")
_FIELDS = ", ".join(_SQL["field"].format(name=field.name) for field in CHANGE_FIELDS)


def given_up(
    connection: duckdb.DuckDBPyConnection, lake: str, worker: UUID, spans: Iterable[tuple[int, int]]
) -> tuple[int, int | None] | None:
    """The first position among these spans of a worker's (first, last) that the lake attached as `lake` does not have,
    and behind which position all went on without it: None when it still has its place there. None when the lake has
    them all. Raises duckdb.Error."""
    of_worker = {"worker": str(worker)}
    ((flushed,),) = connection.execute(_SQL["flushed"].format(lake=lake), of_worker).fetchall()
    lacking = [max(first, flushed + 1) for first, last in spans if last >= first and last > flushed]
    if not lacking:
        return None
    first = min(lacking)
    ((at,),) = connection.execute(_SQL["given_up_at"].format(lake=lake), of_worker | {"first": first}).fetchall()
    return first, None if at is None else int(at)


def said_since(connection: duckdb.DuckDBPyConnection, lake: str, messages: Path, after: int) -> dict[UUID, set[str]]:
    """For the runs of these messages, one a line, which of their fields other changes behind a position have set.
    Raises duckdb.Error."""
    query = _SQL["said_since"].format(lake=lake, path=quote(str(messages)), fields=_FIELDS)
    return {UUID(run): set(names) for run, names in connection.execute(query, {"after": after}).fetchall()}
