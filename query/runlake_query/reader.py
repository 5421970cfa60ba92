"""Reads of the read model: off the event loop, on a bounded number of threads, each read in one transaction."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import duckdb

from runlake_query.copies import Copies, Copy
from runlake_query.model import ReadModel, read_lake_positions, read_positions
from runlake_query.positions import Positions
from runlake_query.problems import TooBusy

T = TypeVar("T")


class Snapshot:
    """The read model as one transaction sees it: rows and positions agree."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, positions: Positions, copy: Copy | None) -> None:
        self._cursor = cursor
        self.positions = positions
        self._copy = copy

    @property
    def lake(self) -> str:
        """What the copy of the lake is called: at least what the read model has of it. Only `with_lake`."""
        if self._copy is None:
            raise RuntimeError("this read did not ask for the lake")
        return self._copy.name

    def rows(self, query: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self._cursor.execute(query, values or None).fetchall()

    def one(self, query: str, values: dict[str, Any] | None = None) -> tuple[Any, ...]:
        """The first row of a query that has one. Raises LookupError."""
        row = self._cursor.execute(query, values or None).fetchone()
        if row is None:
            raise LookupError("the query has no row")
        return row

    def columns(self, query: str, values: dict[str, Any] | None = None) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The names of a query's columns, and its rows."""
        found = self._cursor.execute(query, values or None)
        return [column[0] for column in found.description or []], found.fetchall()


class Answer(NamedTuple):
    """A body made from one snapshot."""

    body: bytes
    positions: Positions


class Reader:
    """Runs reads. At most `threads` at a time, and at most `waiting` more in line: then TooBusy."""

    def __init__(self, model: ReadModel, copies: Copies, threads: int = 4, waiting: int = 256) -> None:
        self._model = model
        self._copies = copies
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._local = threading.local()
        self._limit = threads + waiting
        self._running = 0

    async def read(self, work: Callable[[Snapshot], T], *, with_lake: bool = False) -> T:
        """Run `work` on a thread, in a transaction. Raises TooBusy, and what `work` raises."""
        if self._running >= self._limit:
            raise TooBusy
        self._running += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, self._read, work, with_lake)
        future.add_done_callback(self._finished)
        return await future

    def close(self) -> None:
        """Wait for the reads at work, and end the threads."""
        self._executor.shutdown()

    def _finished(self, future: asyncio.Future[Any]) -> None:
        self._running -= 1

    def _read(self, work: Callable[[Snapshot], T], with_lake: bool) -> T:
        cursor = self._cursor()
        if not with_lake:
            with _transaction(cursor) as positions:
                return work(Snapshot(cursor, positions, None))
        while True:
            with self._copies.borrow() as copy, _transaction(cursor) as positions:
                # A copy is published before its rows are applied; one borrowed just before that may be behind.
                confirmed = read_lake_positions(cursor)
                if all(copy.positions.get(worker, 0) >= seq for worker, seq in confirmed.items()):
                    return work(Snapshot(cursor, positions, copy))

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        cursor: duckdb.DuckDBPyConnection | None = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self._local.cursor = self._model.cursor()
        return cursor


@contextmanager
def _transaction(cursor: duckdb.DuckDBPyConnection) -> Iterator[Positions]:
    """A transaction that only reads; its first statement fixes what it sees."""
    cursor.execute("BEGIN")
    try:
        yield read_positions(cursor)
    finally:
        cursor.execute("ROLLBACK")
