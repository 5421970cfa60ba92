"""Reads of the read model: off the event loop, on a bounded number of threads, each read in one transaction."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

import duckdb

from runlake.sqlfile import load_queries
from runlake_query.copies import Copies, Copy
from runlake_query.lakereach import LakeAway, LakeReach
from runlake_query.model import ReadModel, State, read_lake_positions, read_positions
from runlake_query.plans import Found, Plans
from runlake_query.positions import Positions
from runlake_query.problems import Problem, TooBusy, TooSlow

T = TypeVar("T")
_INTERRUPT_EVERY_S = 0.05
_LOOK_EVERY_S = 0.5
"""How often to see whether the lake can be read while somebody waits for it."""
_LAKE_THREADS = 2
"""Reads of a lake on other machines have threads of their own: they may have to wait long."""
_SQL = load_queries("runlake_query", "model.sql")


class Snapshot:
    """The read model as one transaction sees it: rows and positions agree."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        positions: Positions,
        copy: Copy | None,
        plans: Plans | None = None,
        generation: int = 0,
        task: _Task | None = None,
    ) -> None:
        self._cursor = cursor
        self._task = task
        self.positions = positions
        self._generation = generation
        self._copy = copy
        self._plans = plans
        self._all_started: bool | None = None

    @property
    def state(self) -> State:
        """What an answer from here may be kept for."""
        return State(self.positions, self._generation)

    @property
    def all_started(self) -> bool:
        """Whether the start of every run has come."""
        if self._all_started is None:
            self._all_started = not self.rows(_SQL["unstarted"])
        return self._all_started

    @property
    def shown(self) -> str:
        """The view of the runs that are shown, as is quicker to go through."""
        return "every_run" if self.all_started else "shown"

    def used_fields(self) -> frozenset[str]:
        """The fields of runs that some run may have."""
        return frozenset(name for (name,) in self.rows(_SQL["used_fields"]))

    @property
    def lake(self) -> str:
        """What the copy of the lake is called: at least what the read model has of it. Only `with_lake`.

        A query of both together leaves something in memory, for each version of the lake: what is of the lake alone is
        asked by `lake_rows`.
        """
        return self._lent.name

    @property
    def _lent(self) -> Copy:
        if self._copy is None:
            raise RuntimeError("this read did not ask for the lake")
        return self._copy

    def followed(self) -> dict[str, list[str] | list[int]]:
        """How much of the lake the read model has confirmed, as the values `$workers` and `$seqs`."""
        confirmed = read_lake_positions(self._cursor)
        return {"workers": [str(worker) for worker in confirmed], "seqs": list(confirmed.values())}

    def lake_rows(self, query: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query of the lake alone, of the tables that are called `lake`. Only `with_lake`."""
        with self._lent.cursor() as cursor, self._at_work(cursor):
            return cursor.execute(query, values or None).fetchall()

    def lake_batches(self, query: str, values: dict[str, Any], size: int) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of such a query, `size` of them at a time: the read model may be asked between. Only `with_lake`."""
        with self._lent.cursor() as cursor:
            with self._at_work(cursor):
                cursor.execute(query, values)
            while True:
                with self._at_work(cursor):
                    rows = cursor.fetchmany(size)
                if not rows:
                    return
                yield rows

    def _at_work(self, cursor: duckdb.DuckDBPyConnection) -> AbstractContextManager[None]:
        return self._task.at_work(cursor) if self._task else nullcontext()

    def rows(self, query: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self._find(query, values).rows

    def of_lists(self, query: str, *lists: list[str] | list[int]) -> list[tuple[Any, ...]]:
        """All rows of a query that takes lists of texts or numbers as `$1::VARCHAR[]`, `$2::BIGINT[]` …"""
        if self._plans is not None:
            return self._plans.call(query, *lists)
        return self._cursor.execute(query, list(lists)).fetchall()

    def one(self, query: str, values: dict[str, Any] | None = None) -> tuple[Any, ...]:
        """The first row of a query that has one. Raises LookupError."""
        rows = self._find(query, values).rows
        if not rows:
            raise LookupError("the query has no row")
        return rows[0]

    def columns(self, query: str, values: dict[str, Any] | None = None) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The names of a query's columns, and its rows."""
        found = self._find(query, values)
        return found.columns, found.rows

    def _find(self, query: str, values: dict[str, Any] | None) -> Found:
        if self._plans is not None:
            return self._plans.find(query, values)
        cursor = self._cursor.execute(query, values or None)
        return Found([column[0] for column in cursor.description or []], cursor.fetchall())


class Answer(NamedTuple):
    """A body made from one snapshot."""

    body: bytes
    positions: Positions


class Reader:
    """Runs reads. At most `threads` at a time, and at most `waiting` more in line: then TooBusy. One that takes longer
    than `deadline_s`, or that nobody awaits any more, is interrupted."""

    def __init__(
        self,
        model: ReadModel,
        copies: Copies,
        threads: int = 4,
        waiting: int = 256,
        deadline_s: float = 30.0,
        lake: LakeReach | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._lake = lake if lake is not None and lake.remote else None
        self._model = model
        self._copies = copies
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._of_lake = ThreadPoolExecutor(_LAKE_THREADS, thread_name_prefix="lake") if self._lake else self._executor
        self._local = threading.local()
        self._limit = threads + waiting
        self._running = 0

    @property
    def generation(self) -> int:
        """How often answers have changed and positions have not."""
        return self._model.generation

    async def read(self, work: Callable[[Snapshot], T], *, with_lake: bool = False) -> T:
        """Run `work` on a thread, in a transaction. Raises TooBusy, TooSlow, LakeAway, and what `work` raises.

        A Problem that `work` raises is told which positions it was found at.
        """
        if self._running >= self._limit:
            raise TooBusy
        lake = self._lake if with_lake else None
        if lake is not None:
            lake.check()
        self._running += 1
        task = _Task()
        executor = self._of_lake if with_lake else self._executor
        future = asyncio.get_running_loop().run_in_executor(executor, self._read, task, work, with_lake)
        future.add_done_callback(self._finished)
        try:
            if lake is not None:
                return await self._watched(future, lake)
            return await asyncio.wait_for(asyncio.shield(future), self._deadline_s)
        except TimeoutError:
            raise TooSlow(self._deadline_s) from None
        finally:
            if not future.done():
                future.add_done_callback(_forget)
                _give_up(task, future)

    async def _watched(self, future: asyncio.Future[T], lake: LakeReach) -> T:
        """The result of a read of a lake on other machines, as long as it can be read. Raises TimeoutError."""
        async with asyncio.timeout(self._deadline_s):
            while not (await asyncio.wait((future,), timeout=_LOOK_EVERY_S))[0]:
                lake.check()
            try:
                return future.result()
            except duckdb.IOException as error:
                raise LakeAway from error

    def close(self) -> None:
        """Wait for the reads at work, and end the threads."""
        self._executor.shutdown()
        self._of_lake.shutdown()

    def _finished(self, future: asyncio.Future[Any]) -> None:
        self._running -= 1

    def _read(self, task: _Task, work: Callable[[Snapshot], T], with_lake: bool) -> T:
        task.check()
        cursor, plans = self._cursor()
        generation = self._model.generation
        if not with_lake:
            with _transaction(cursor, task, plans) as positions:
                return _told(work, Snapshot(cursor, positions, None, plans, generation))
        while True:
            with self._copies.borrow() as copy, _transaction(cursor, task) as positions:
                # A copy is published before its rows are applied; one borrowed just before that may be behind.
                confirmed = read_lake_positions(cursor)
                if all(copy.positions.get(worker, 0) >= seq for worker, seq in confirmed.items()):
                    return _told(work, Snapshot(cursor, positions, copy, generation=generation, task=task))

    def _cursor(self) -> tuple[duckdb.DuckDBPyConnection, Plans]:
        """The thread's cursor. Of the lake nothing is planned ahead: each copy of its catalog has another name."""
        own: tuple[duckdb.DuckDBPyConnection, Plans] | None = getattr(self._local, "own", None)
        if own is None:
            cursor = self._model.cursor()
            own = self._local.own = cursor, Plans(cursor)
        return own


class _Task:
    """One read, which may be given up from the event loop while a thread is at it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._given_up = False

    def check(self) -> None:
        """Raises GivenUp when nobody waits for it any more."""
        if self._given_up:
            raise GivenUp

    @contextmanager
    def at_work(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Around what may be interrupted. Raises GivenUp when nobody waits for it any more."""
        with self._lock:
            self.check()
            before, self._cursor = self._cursor, cursor
        try:
            yield
        finally:
            with self._lock:
                self._cursor = before

    def interrupt(self) -> None:
        with self._lock:
            self._given_up = True
            if self._cursor is not None:
                self._cursor.interrupt()


class GivenUp(Exception):  # noqa: N818 (named by what happened)
    """Nobody waits for this read any more."""


def _give_up(task: _Task, future: asyncio.Future[Any]) -> None:
    """Interrupt a read until it has ended: one interruption may fall between two of its statements."""
    if not future.done():
        task.interrupt()
        asyncio.get_running_loop().call_later(_INTERRUPT_EVERY_S, _give_up, task, future)


def _forget(future: asyncio.Future[Any]) -> None:
    """Take note of how a read ended that nobody waits for."""
    if not future.cancelled():
        future.exception()


def _told(work: Callable[[Snapshot], T], snapshot: Snapshot) -> T:
    try:
        return work(snapshot)
    except Problem as problem:
        problem.positions = snapshot.positions
        raise


@contextmanager
def _transaction(cursor: duckdb.DuckDBPyConnection, task: _Task, plans: Plans | None = None) -> Iterator[Positions]:
    """A transaction that only reads; its first statement fixes what it sees.

    Neither its beginning nor its end may be interrupted: the cursor would stay in it, and fail every later read.
    """
    cursor.execute("BEGIN")
    try:
        with task.at_work(cursor):
            yield read_positions(cursor, plans)
    finally:
        cursor.execute("ROLLBACK")
