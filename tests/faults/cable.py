"""A network cable between agents and a worker that can be cut: what is sent then arrives nowhere, and nobody is told.

It relays Unix streams, on which ZeroMQ speaks as it does on TCP. Cut, it goes on taking bytes until the buffers are
full, and drops them; connections that are made then are answered by nobody. Mended, the old connections stay dead, half
open at both ends: only the application can tell.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_PIECE_BYTES = 65_536


class Cable:
    """From `ipc://<folder>/c` to `ipc://<folder>/i`. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.endpoint = f"ipc://{folder}/c"
        self._from, self._to = str(folder / "c"), str(folder / "i")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cable")
        self._server: asyncio.AbstractServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._generation = 0
        """Connections of an earlier one are dead."""
        self._whole = True
        self._until_cut = -1
        """How many more bytes arrive before it is cut; negative: all."""
        self.connections = 0
        """How many there have been."""

    def cut(self) -> None:
        """From now on nothing arrives."""
        self._whole = False
        self._generation += 1

    def cut_after(self, size: int) -> None:
        """Cut it in the midst of what agents send, when so many bytes of it have arrived."""
        self._until_cut = size

    @property
    def is_cut(self) -> bool:
        return not self._whole

    def mend(self) -> None:
        """New connections work again."""
        self._generation += 1
        self._whole = True

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._server = await asyncio.start_unix_server(self._connected, self._from)

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        generation = self._generation
        try:
            if not self._whole:
                await self._pump(reader, None, generation)
                return
            there, back = await asyncio.open_unix_connection(self._to)
            try:
                to_worker = self._pump(reader, back, generation, counted=True)
                await asyncio.gather(to_worker, self._pump(there, writer, generation))
            finally:
                back.close()
        except OSError:  # the worker is away: so is the connection
            pass
        finally:
            writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter | None,
        generation: int,
        *,
        counted: bool = False,
    ) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(_PIECE_BYTES):
                if counted and self._until_cut >= 0:
                    self._until_cut -= len(piece)
                    if self._until_cut < 0:
                        self.cut()
                if writer is not None and generation == self._generation:
                    writer.write(piece)
                    await writer.drain()
        if writer is not None and generation == self._generation:
            writer.close()
