"""The files that users' SQL reads: the runs as they are shown, and the events, both at one position.

An extract is a folder of its own, complete or not there: it is written under another name and renamed. Its runs and
recent events are copied from the read model in one transaction, and the lake's files of events are named beside them.
Those in object storage are copied into the extract, for the sandbox has no network. A file never changes: of those that
the extract before has, links are made.

How fresh: a query reads the newest extract when that reflects `?after=` and what this process had acknowledged, and
reflects all that the read model does (also of costs, which change without a message), or is not older than `MAX_AGE_S`
or ten times what it took to make, whichever is longer. Else, and every `MAX_LIFE_S` (the lake's files are replaced by
merged ones), a new one is made first. One that nobody has asked for in `UNUSED_S` is removed.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from runlake.fields import RUN_FIELD_NAMES
from runlake.lake.duck import quote
from runlake.sqlfile import load_queries
from runlake_query.positions import Positions, reaches
from runlake_query.reader import Reader, Snapshot
from runlake_query.sql.fetching import LakeFile, fetch, here

MAX_AGE_S = 2.0
MAX_LIFE_S = 300.0
UNUSED_S = 600.0
_AGE_PER_COST = 10
_FETCHED = "fetched"
"""The folder of an extract that holds files of object storage."""

_SQL = load_queries("runlake_query.sql", "extracts.sql")


class Files(NamedTuple):
    """What one extract is made of, and what it reflects."""

    positions: Positions
    lake_positions: dict[str, int]
    """By worker, the last `seq` that is to be read from the lake's files."""
    runs: Path
    recent: Path
    events: list[str]
    deletes: list[str]


class _Extract:
    def __init__(self, files: Files, generation: int, made_at: float, took_s: float) -> None:
        self.files = files
        self.generation = generation
        self.made_at = made_at
        self.took_s = took_s
        self.holders = 0


class Extracts:
    """Makes extracts in `folder` and lends them. On the event loop."""

    def __init__(
        self,
        reader: Reader,
        folder: Path,
        positions: Callable[[], Positions],
        generation: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._folder = folder
        self._positions = positions
        self._generation = generation
        self._clock = clock
        self._making = asyncio.Lock()
        self._made = 0
        self._newest: _Extract | None = None
        self._lent_at = 0.0

    @asynccontextmanager
    async def lend(self, wanted: Positions) -> AsyncIterator[Files]:
        """An extract that is fresh enough, for as long as the block runs. Raises TooBusy, TooSlow, NoRoom,
        duckdb.Error."""
        async with self._making:
            extract = self._newest
            if extract is None or not self._fresh(extract, wanted):
                extract = await self._make()
        extract.holders += 1
        self._lent_at = self._clock()
        try:
            yield extract.files
        finally:
            extract.holders -= 1
            if extract is not self._newest:
                await self._remove(extract)

    async def sweep(self) -> bool:
        """Remove the newest extract when nobody has asked for one in a while; says whether it did."""
        newest = self._newest
        if newest is None or newest.holders or self._clock() - self._lent_at < UNUSED_S:
            return False
        self._newest = None
        await self._remove(newest)
        return True

    def _fresh(self, extract: _Extract, wanted: Positions) -> bool:
        reflected = extract.files.positions
        if not reaches(reflected, wanted):
            return False
        age = self._clock() - extract.made_at
        if age >= MAX_LIFE_S:
            return False
        same = reflected == self._positions() and extract.generation == self._generation()
        return same or age < max(MAX_AGE_S, _AGE_PER_COST * extract.took_s)

    async def _make(self) -> _Extract:
        self._made += 1
        target = self._folder / f"extract-{self._made}"
        begun, generation = self._clock(), self._generation()
        fetched = None if self._newest is None else self._newest.files.runs.with_name(_FETCHED)
        files = await self._reader.read(lambda snapshot: _write(snapshot, target, fetched), with_lake=True)
        before, self._newest = self._newest, _Extract(files, generation, begun, self._clock() - begun)
        if before is not None:
            await self._remove(before)
        return self._newest

    async def _remove(self, extract: _Extract) -> None:
        if not extract.holders:
            folder = extract.files.runs.parent
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))


def _write(snapshot: Snapshot, target: Path, fetched: Path | None) -> Files:
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    try:
        runs = _SQL["runs"].format(columns=", ".join(RUN_FIELD_NAMES), path=quote(str(partial / "runs.parquet")))
        snapshot.rows(runs)
        snapshot.rows(_SQL["recent_events"].format(path=quote(str(partial / "recent.parquet"))))
        found = [LakeFile(*row) for row in snapshot.lake_rows(_SQL["event_files"].format(lake=quote(snapshot.lake)))]
        fetch(snapshot, found, partial / _FETCHED, fetched)
        lake_positions = dict(snapshot.rows(_SQL["lake_positions"]))
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Files(
        positions=snapshot.positions,
        lake_positions=lake_positions,
        runs=target / "runs.parquet",
        recent=target / "recent.parquet",
        events=[here(file.data, target / _FETCHED) for file in found],
        deletes=[here(file.delete, target / _FETCHED) for file in found if file.delete is not None],
    )
