"""Takes out of the read model the runs that retention has removed from the lake."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import duckdb

from runlake.lake.duck import quote
from runlake.sqlfile import load_queries
from runlake_query.applystatements import RECOUNT_UNSTARTED

_SQL = load_queries("runlake_query", "removals.sql")


class Extent(NamedTuple):
    """How many removals a lake has, and when the last one was."""

    removals: int = 0
    last: str | None = None


def removals_in_lake(cursor: duckdb.DuckDBPyConnection, lake: str) -> Extent:
    """Those of a copy of the lake; none in a lake of a schema without them. Raises duckdb.Error."""
    ((there,),) = cursor.execute(_SQL["has_removals"].format(lake=quote(lake))).fetchall()
    if not there:
        return Extent()
    ((count, last),) = cursor.execute(_SQL["extent"].format(lake=lake)).fetchall()
    return Extent(count, last)


class Removals:
    """The follower's. Its cursor is the one that writes. `changed` is told of what was committed."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, changed: Callable[[], None] = lambda: None) -> None:
        self._cursor = cursor
        self._changed = changed
        self._seen = Extent()

    def forget(self) -> None:
        """The read model was emptied."""
        self._seen = Extent()

    def apply(self, found: Extent, lake: str) -> int:
        """Take out what was removed; returns how many runs that were. All are taken again when there is a new one, for
        clocks may step back. Raises duckdb.Error."""
        if found == self._seen:
            return 0
        self._cursor.execute("BEGIN")
        try:
            self._cursor.execute(_SQL["take"].format(lake=lake))
            ((runs,),) = self._cursor.execute(_SQL["runs"]).fetchall()
            for name in ("events", "associations"):
                self._cursor.execute(_SQL[name])
            for statement in RECOUNT_UNSTARTED:
                self._cursor.execute(statement)
            self._cursor.execute("DROP TABLE removed")
            self._cursor.execute("COMMIT")
        except BaseException:
            self._cursor.execute("ROLLBACK")
            raise
        self._changed()
        self._seen = found
        return int(runs)
