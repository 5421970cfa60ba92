"""Point reads of runs: those that come together are answered by one query, and what was read is kept while it is true.

The read model has no index, so that finding one run costs about as much as finding fifty, and planning a query costs
more than running it. So queries are prepared, on threads of their own; while one is at work, what arrives waits for the
next; and an answer is kept for as long as nothing is applied.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

import duckdb

from runlake.lake.duck import quote
from runlake.sqlfile import load_queries
from runlake_query.knownruns import KnownRuns
from runlake_query.model import ReadModel, State, read_positions
from runlake_query.positions import Positions
from runlake_query.problems import TooBusy
from runlake_query.progress import Progress
from runlake_query.recent import Recent
from runlake_query.runs import RUN

_SQL = load_queries("runlake_query", "points.sql")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_THREADS = 2
_MAX_KEYS = 256
_MAX_WAITING = 10_000
_MAX_KEPT = 20_000

K = TypeVar("K")
V = TypeVar("V")


class Found(NamedTuple):
    """One run as the read model has it."""

    event_id: UUID
    run_id: str
    start_us: int
    """Its start_time in microseconds since 1970."""
    body: bytes
    """The Run object as JSON."""


class PointRead(NamedTuple):
    """What a point read found, and what it reflects."""

    run: Found | None
    positions: Positions


class Points:
    """Finds runs. On the event loop; `close` it once, before the read model. Every read may raise TooBusy."""

    def __init__(
        self,
        model: ReadModel,
        progress: Progress,
        recent: Recent | None = None,
        known: KnownRuns | None = None,
    ) -> None:
        self._model = model
        self._progress = progress
        self._recent = recent
        self._known = known
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="points")
        self._local = threading.local()
        self._names: _Gathering[str | UUID, PointRead] = _Gathering(lambda keys: self._on_thread(_find, keys))
        self._ids: _Gathering[UUID, bool | None] = _Gathering(lambda keys: self._on_thread(_known, keys))
        self._kept: dict[str | UUID, PointRead] = {}
        self._kept_at = State({}, 0)

    async def by_name(self, name: str) -> PointRead:
        """What `{run_id}` in a path means: the latest created run of that run_id, else the run of that event_id."""
        return await self._read(name)

    async def by_id(self, event_id: UUID) -> PointRead:
        """The run of this event_id."""
        return await self._read(event_id)

    async def by_ids(self, event_ids: Sequence[UUID]) -> dict[UUID, Found]:
        """The runs of these event_ids that there are."""
        known = self._known
        ids = [one for one in event_ids if known is None or known.may_be_known(one)]
        found = await self._on_thread(_find, ids) if ids else {}
        return {read.run.event_id: read.run for read in found.values() if read.run is not None}

    async def is_known(self, event_id: UUID) -> bool | None:
        """Whether there is a run of this event_id; None when there is not even a change of it. Quicker than reading it,
        and mostly no SQL when there is nothing."""
        if self._known is not None and not self._known.may_be_known(event_id):
            return None
        return await self._ids.get(event_id)

    async def without_start(self, event_ids: Sequence[UUID]) -> set[UUID]:
        """Those of these event_ids of which there are changes, and no start."""
        known = self._known
        ids = [one for one in event_ids if known is None or known.may_be_known(one)]
        found = await self._on_thread(_known, ids) if ids else {}
        return {event_id for event_id, is_run in found.items() if is_run is False}

    def recent_bodies(self, event_ids: Sequence[UUID], positions: Positions) -> dict[UUID, bytes]:
        """Those of these runs that are in memory, as they are at exactly these positions. Any thread."""
        return self._recent.bodies(event_ids, positions) if self._recent is not None else {}

    def close(self) -> None:
        """Wait for the reads at work, and end the threads."""
        self._executor.shutdown()

    async def _read(self, name: str | UUID) -> PointRead:
        if self._recent is not None:
            known = self._recent.get(name)
            if known is not None:
                run, reflected = known
                return PointRead(Found(run.event_id, run.run_id, run.start_us, run.body), reflected)
        state = State(self._progress.positions, self._model.generation)
        if state.positions is not self._kept_at.positions or state.generation != self._kept_at.generation:
            self._kept, self._kept_at = {}, state
        kept = self._kept.get(name)
        if kept is not None:
            return kept
        found = await self._names.get(name)
        if self._recent is not None and isinstance(name, str) and found.run is not None:
            self._recent.confirmed(name, found.run.event_id, found.positions)
        if self._kept_at == State(found.positions, state.generation) and len(self._kept) < _MAX_KEPT:
            self._kept[name] = found
        return found

    async def _on_thread(self, work: Callable[[duckdb.DuckDBPyConnection, list[K]], V], keys: list[K]) -> V:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: work(self._cursor(), keys))

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        cursor: duckdb.DuckDBPyConnection | None = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self._model.cursor()
            for name, query in _SQL.items():
                cursor.execute(f"PREPARE {name} AS {query.format(run=RUN, names='$1')}")
            self._local.cursor = cursor
        return cursor


class _Gathering(Generic[K, V]):
    """Gathers keys while a question is at work, and asks for all of them at once."""

    def __init__(self, ask: Callable[[list[K]], Any]) -> None:
        self._ask = ask
        self._waiting: dict[K, asyncio.Future[V]] = {}
        self._at_work = 0

    async def get(self, key: K) -> V:
        future = self._waiting.get(key)
        if future is None:
            if len(self._waiting) >= _MAX_WAITING:
                raise TooBusy
            loop = asyncio.get_running_loop()
            future = self._waiting[key] = loop.create_future()
            if not self._at_work:
                self._at_work += 1
                loop.call_soon(self._start)  # after what else is ready now has said what it wants to know
        return await asyncio.shield(future)

    def _start(self) -> None:
        keys = list(self._waiting)[:_MAX_KEYS]
        taken = {key: self._waiting.pop(key) for key in keys}
        asyncio.get_running_loop().create_task(self._run(taken))

    async def _run(self, taken: dict[K, asyncio.Future[V]]) -> None:
        try:
            found: dict[K, V] = await self._ask(list(taken))
        except BaseException as error:  # noqa: BLE001 (whoever waits must know)
            for future in taken.values():
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # who asked may be gone
        else:
            for key, future in taken.items():
                if not future.done():
                    future.set_result(found[key])
        finally:
            if self._waiting:
                self._start()
            else:
                self._at_work -= 1


def _known(cursor: duckdb.DuckDBPyConnection, event_ids: list[UUID]) -> dict[UUID, bool | None]:
    found: dict[str, bool] = dict(_rows(cursor, "known", [str(event_id) for event_id in event_ids]))
    return {event_id: found.get(str(event_id)) for event_id in event_ids}


def _find(cursor: duckdb.DuckDBPyConnection, names: Sequence[str | UUID]) -> dict[str | UUID, PointRead]:
    cursor.execute("BEGIN")
    try:
        keys = {name: name if isinstance(name, UUID) else UUID(name) for name in names if _is_id(name)}
        run_ids = [name for name in names if isinstance(name, str)]
        if run_ids:
            keys |= {run_id: UUID(key) for run_id, key in _rows(cursor, "latest", run_ids)}
        rows = _rows(cursor, "runs", [str(key) for key in set(keys.values())]) if keys else []
        positions = read_positions(cursor)
    finally:
        cursor.execute("ROLLBACK")
    runs = {UUID(key): Found(UUID(key), run_id, start, body.encode()) for key, run_id, start, body in rows}
    return {name: PointRead(runs.get(keys[name]) if name in keys else None, positions) for name in names}


def _is_id(name: str | UUID) -> bool:
    return isinstance(name, UUID) or _UUID.fullmatch(name) is not None


def _rows(cursor: duckdb.DuckDBPyConnection, query: str, names: list[str]) -> list[tuple[Any, ...]]:
    """The rows of a prepared query of names. EXECUTE binds nothing, so only UUIDs go there; other texts are bound."""
    plain = [name for name in names if _UUID.fullmatch(name)]
    odd = [name for name in names if not _UUID.fullmatch(name)]
    rows: list[tuple[Any, ...]] = []
    if plain:
        rows += cursor.execute(f"EXECUTE {query}([{', '.join(map(quote, plain))}])").fetchall()
    if odd:
        rows += cursor.execute(_SQL[query].format(run=RUN, names="$names"), {"names": odd}).fetchall()
    return rows
