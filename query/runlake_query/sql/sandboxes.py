"""The processes that run users' SQL: at most so many, started when they are needed, and ended rather than trusted.

A sandbox that misses its deadline, dies, or whose asker has gone is killed, and another one takes its place; one that
served for long enough is ended too. Beyond those at work a bounded number of requests wait.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from runlake.errors import RunLakeError
from runlake.logs import Log
from runlake_query.problems import TooBusy
from runlake_query.sql.messages import Ask, Confined, Told

_MODULE = "runlake_query.sql.sandbox"
_START_S = 30.0
_GRACE_S = 1.0
"""How long after its deadline a statement may take to be interrupted, until its process is killed."""
_STATEMENTS_PER_PROCESS = 200
_MAX_ANSWER_BYTES = 1 << 20
_OVERHEAD_MIB = 3_072
"""Address space beyond the memory limit: Python, DuckDB, Arrow, and what is reserved and never touched."""


class SandboxLost(RunLakeError):  # noqa: N818 (named by what happened)
    """A sandbox ended without an answer: it was out of memory or time, or could not start."""


class _Sandbox:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.served = 0

    async def line(self) -> bytes:
        assert self.process.stdout is not None
        return await self.process.stdout.readline()

    async def tell(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Bounds(NamedTuple):
    """What one statement may use: memory and space for what does not fit in it (MiB), threads, and seconds."""

    memory_mib: int
    spill_mib: int
    threads: int
    deadline_s: float


class Sandboxes:
    """Runs statements, `size` at a time. On the event loop. `folder` holds extracts and `work`, `storage` the lake;
    None when it is in object storage, of which the extracts have copies."""

    def __init__(
        self, storage: Path | None, folder: Path, bounds: Bounds, log: Log, *, size: int = 2, waiting: int = 16
    ) -> None:
        self._storage = storage or folder
        self._folder = folder
        self.bounds = bounds
        self._log = log
        self._free = asyncio.Semaphore(size)
        self._limit = size + waiting
        self._running = 0
        self._asked = 0
        self._idle: list[_Sandbox] = []
        self._all: set[_Sandbox] = set()

    @asynccontextmanager
    async def work_folder(self) -> AsyncIterator[Path]:
        """A folder for one statement, for as long as the block runs. Raises TooBusy."""
        if self._running >= self._limit:
            raise TooBusy
        self._running += 1
        self._asked += 1
        folder = self._folder / "work" / str(self._asked)
        try:
            folder.mkdir(parents=True, mode=0o700)
            yield folder
        finally:
            self._running -= 1
            # Shielded: a request that is cancelled here too would leave it behind.
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    async def run(self, ask: Ask) -> Told:
        """Run one statement. Raises SandboxLost. When it is cancelled, the process is killed."""
        async with self._free:
            sandbox = await self._take()
            told = None
            try:
                async with asyncio.timeout(ask.deadline_s + _GRACE_S):
                    await sandbox.tell(msgspec.json.encode(ask) + b"\n")
                    line = await sandbox.line()
                    told = msgspec.json.decode(line, type=Told) if line else None
            except TimeoutError:
                self._log.warning("sandbox_killed", pid=sandbox.process.pid, reason="deadline")
                return Told(outcome="too_slow")
            except (ConnectionError, ValueError, msgspec.DecodeError):
                told = None
            finally:
                sandbox.served += 1
                if told is not None and sandbox.served < _STATEMENTS_PER_PROCESS:
                    self._idle.append(sandbox)
                else:
                    await self._end(sandbox)
            if told is None:
                self._log.warning("sandbox_lost", pid=sandbox.process.pid, status=sandbox.process.returncode)
                raise SandboxLost("The statement used more memory or time than it may have, and was ended.")
            return told

    async def close_idle(self) -> None:
        """End the processes that do nothing."""
        while self._idle:
            await self._end(self._idle.pop())

    async def close(self) -> None:
        """End all processes."""
        self._idle.clear()
        for sandbox in list(self._all):
            await self._end(sandbox)

    async def _take(self) -> _Sandbox:
        while self._idle:
            sandbox = self._idle.pop()
            if sandbox.process.returncode is None:
                return sandbox
            self._all.discard(sandbox)
        starting = asyncio.ensure_future(self._start())
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._keep)
            raise

    def _keep(self, started: asyncio.Future[_Sandbox]) -> None:
        """A sandbox whose asker has gone while it started: it is there for the next one."""
        if not started.cancelled() and started.exception() is None:
            self._idle.append(started.result())

    async def _start(self) -> _Sandbox:
        bounds = self.bounds
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-B", "-m", _MODULE, str(self._storage), str(self._folder)),
            *("--address-space-mib", str(bounds.memory_mib + _OVERHEAD_MIB)),
            *("--file-mib", str(bounds.spill_mib)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            cwd=self._folder,
            start_new_session=True,
            limit=_MAX_ANSWER_BYTES,
        )
        sandbox = _Sandbox(process)
        self._all.add(sandbox)
        confined = None
        try:
            async with asyncio.timeout(_START_S):
                line = await sandbox.line()
            confined = msgspec.json.decode(line, type=Confined)
        except (TimeoutError, ValueError, msgspec.DecodeError):
            raise SandboxLost("The process for SQL did not start.") from None
        finally:
            if confined is None:
                await self._end(sandbox)
        tell = self._log.info if (confined.network, confined.files) == ("namespace", "landlock") else self._log.warning
        tell("sandbox_started", pid=process.pid, network=confined.network, files=confined.files)
        return sandbox

    async def _end(self, sandbox: _Sandbox) -> None:
        self._all.discard(sandbox)
        await asyncio.shield(sandbox.kill())
