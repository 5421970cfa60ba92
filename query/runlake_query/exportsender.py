"""Makes one export and sends it, stretch by stretch; a Parquet file when it is complete.

All is read in one transaction. What goes wrong before the first byte is an answer; later the connection is broken off
in the midst of the body, so that nobody takes what came for all.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import duckdb
from aiohttp import web

from runlake.logs import Log
from runlake_query.connected import while_connected
from runlake_query.exportparts import NoRoom, Parts, no_room
from runlake_query.exportwriter import STRETCH_ROWS, Part, Rows, cut, join_parquet, write
from runlake_query.files import break_off, send_file, send_part
from runlake_query.formats import PARQUET, Format
from runlake_query.positions import Positions
from runlake_query.reader import Reader, Snapshot

JOIN_DEADLINE_S = 600.0
_MAX_WRITING = 2
"""So many exports put rows in order at a time; others wait for their turn between two stretches."""

Headers = Callable[[Positions], Mapping[str, str]]


class _Begun(NamedTuple):
    """What is known when the first part is there."""

    rows: int
    positions: Positions
    is_whole: bool
    """There is no other part."""


class _Export:
    """One export, on the thread that writes it."""

    def __init__(
        self, wanted: Callable[[Snapshot], Rows], kind: Format, path: Path, parts: Parts, free: Callable[[], int]
    ) -> None:
        self._wanted = wanted
        self._kind = kind
        self._path = path
        self._parts = parts
        self._free = free
        self.begun: _Begun | None = None

    def write(self, snapshot: Snapshot, stretch_rows: int, turns: threading.Semaphore) -> list[Path]:
        """Write all parts, and hand them over; those of a Parquet file are returned, when there are several. Raises
        NoRoom, GivenUp, duckdb.Error, OSError."""
        try:
            return self._write(snapshot, stretch_rows, turns)
        except (duckdb.Error, OSError) as error:
            if no_room(error):
                raise NoRoom from error
            raise

    def _write(self, snapshot: Snapshot, stretch_rows: int, turns: threading.Semaphore) -> list[Path]:
        rows = self._wanted(snapshot)
        conditions, total = cut(snapshot, rows, stretch_rows)
        kept, written = list[Part](), 0
        for part in write(snapshot, rows, conditions, self._path, self._kind, turns):
            written += part.rows
            if self.begun is None:
                self.begun = _Begun(part.rows if total is None else total, snapshot.positions, total is None)
            if total is None or self._kind is not PARQUET:
                self._parts.put(part)
                continue
            kept.append(part)
            if sum(one.bytes for one in kept) > self._free():  # half of what was free
                raise NoRoom
        if total not in (None, written):
            raise RuntimeError(f"{written} rows of an export were written, {total} were counted")
        return [part.path for part in kept]


class ExportSender:
    """On the event loop. `free` says how many bytes the disk has left; any thread may call it."""

    def __init__(
        self,
        reader: Reader,
        folder: Path,
        log: Log,
        stretch_rows: int = STRETCH_ROWS,
        free: Callable[[], int] | None = None,
    ) -> None:
        self._reader = reader
        self._folder = folder
        self._log = log
        self._stretch_rows = stretch_rows
        self._free = free or (lambda: shutil.disk_usage(folder).free)
        self._turns = threading.Semaphore(_MAX_WRITING)
        self._made = 0

    async def send(
        self,
        request: web.Request,
        wanted: Callable[[Snapshot], Rows],
        kind: Format,
        headers: Headers,
        *,
        with_lake: bool = False,
    ) -> web.StreamResponse:
        """Answer with these rows. Raises Problem, duckdb.Error, and ConnectionResetError in the midst of the body."""
        self._made += 1
        path = self._folder / str(self._made)
        parts = Parts(self._free)
        export = _Export(wanted, kind, path, parts, self._free)
        work = partial(export.write, stretch_rows=self._stretch_rows, turns=self._turns)
        writing = asyncio.ensure_future(self._reader.read(work, with_lake=with_lake))
        writing.add_done_callback(parts.ended)
        response = web.StreamResponse()
        try:
            part = await while_connected(request, parts.take(writing))
            if export.begun is None:
                raise RuntimeError("an export has no part")
            rows, positions, is_whole = export.begun
            told = {**headers(positions), "RunLake-Rows": str(rows)}
            if part is None:
                await while_connected(request, _join(writing.result(), path))
                return await send_file(request, path, told)
            if is_whole:
                return await send_file(request, part.path, told)
            response.headers.update(told)
            while part is not None:
                await send_part(request, response, part.path)
                parts.sent(part)
                part = await while_connected(request, parts.take(writing))
            await response.write_eof()
            return response
        except ConnectionError:  # who asked has gone
            raise
        except Exception as error:
            if not response.prepared:
                raise
            self._log.error("export_broken_off", path=request.path_qs, reason=str(error))
            break_off(request)
            raise ConnectionResetError("the export failed") from error
        finally:
            parts.abandon()
            writing.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await writing
            for left in (path, *self._folder.glob(f"{path.name}.*")):
                left.unlink(missing_ok=True)


async def _join(parts: list[Path], path: Path) -> None:
    try:
        await join_parquet(parts, path, JOIN_DEADLINE_S)
    except (duckdb.Error, OSError) as error:
        if no_room(error):
            raise NoRoom from error
        raise
