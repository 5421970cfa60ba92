"""Reading a lake from a test as a reader does: with DuckDB on a private copy of the catalog, also beside a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from runlake.lake import attach
from runlake.lake.place import LakePlace

_COLUMNS = "SELECT worker, seq, producer, event_id"
LOG = f"({_COLUMNS} FROM run_changes UNION ALL {_COLUMNS} FROM events)"
"""Every accepted message, as a query."""


@contextmanager
def lake_copy(catalog: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose current catalog is the lake as it stands now."""
    with attach.read_lake(LakePlace.of_files(catalog, catalog.with_name("lake"))) as connection:
        connection.execute(f"USE {attach.CATALOG}")
        yield connection


def rows(catalog: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of one query on the lake as it stands now."""
    with lake_copy(catalog) as connection:
        return connection.execute(sql, parameters).fetchall()


def one(catalog: Path, sql: str, *parameters: Any) -> Any:
    """The one value of a query with one row and one column."""
    ((value,),) = rows(catalog, sql, *parameters)
    return value


def assert_stored_once(catalog: Path, messages: int) -> None:
    """Exactly this many messages, each `event_id` once, positions from 1 without a gap, and books that balance."""
    with lake_copy(catalog) as connection:
        found = connection.execute(
            f"SELECT count(*), count(DISTINCT event_id), min(seq), max(seq), count(DISTINCT (worker, seq)) FROM {LOG}"
        ).fetchone()
        assert found == (messages, messages, 1, messages, messages)
        books = connection.execute(
            "SELECT count(*) FILTER (received <> accepted + duplicate + rejected), sum(accepted)::BIGINT"
            " FROM deliveries"
        ).fetchone()
        assert books == (0, messages)
