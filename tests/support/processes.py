"""Real RunLake processes for tests: started, awaited by what they log, ended with the signal a test asks for."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

DEADLINE_S = 60.0


class Process:
    """A process that logs JSON lines on standard error."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RUNLAKE_")} | dict(env or {})
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", module, *arguments], stderr=subprocess.PIPE, env=environment, cwd=cwd
        )
        self.log: list[dict[str, Any]] = []
        self.text: list[str] = []
        self._news: queue.Queue[None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait_for(self, event: str, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """The first log line of this event; fails when the process ends or the deadline passes before it."""

        def found() -> dict[str, Any] | None:
            return next((line for line in self.log if line.get("event") == event), None)

        end = time.monotonic() + deadline_s
        while (line := found()) is None:
            if not self._reader.is_alive():
                line = found()
                assert line is not None, f"ended without {event!r}:\n{''.join(self.text)}"
                break
            with contextlib.suppress(queue.Empty):
                self._news.get(timeout=0.2)
            assert time.monotonic() < end, f"no {event!r} in {deadline_s} s:\n{''.join(self.text)}"
        return line

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        """Its exit status; negative for the signal that ended it."""
        status = self._process.wait(deadline_s)
        self._reader.join(deadline_s)
        assert self._process.stderr is not None
        self._process.stderr.close()
        return status

    def kill(self) -> None:
        """End it as `kill -9` does."""
        if self._process.poll() is None:
            self._process.kill()
        self.wait()

    def terminate(self) -> int:
        """End it as a supervisor does; returns the exit status."""
        if self._process.poll() is None:
            self._process.terminate()
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
        elif self._process.stderr is not None and not self._process.stderr.closed:
            self.wait()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            self.text.append(raw.decode("utf-8", "replace"))
            with contextlib.suppress(msgspec.DecodeError):
                self.log.append(msgspec.json.decode(raw, type=dict[str, Any]))
            self._news.put(None)


class Site:
    """A data folder with addresses of its own, and the processes that a test starts on it."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.sockets = folder / "s"
        self.sockets.mkdir(parents=True, exist_ok=True)
        self.ingest_endpoint = f"ipc://{self.sockets}/i"
        self.push_endpoint = f"ipc://{self.sockets}/p"
        self.feed_endpoint = f"ipc://{self.sockets}/f"
        self.env: dict[str, str] = {}
        """More variables for every process that is started here."""
        self.prefix: Sequence[str] = ()
        """What starts every process that is started here."""

    @property
    def catalog(self) -> Path:
        return self.data / "catalog.sqlite"

    def ingest(self, *flags: str, crash_at: str = "", ready: bool = True) -> Process:
        """Start the worker; by default wait until it serves."""
        env = self.env | ({"RUNLAKE_CRASH_AT": crash_at} if crash_at else {})
        process = Process(
            "runlake_ingest", "--data", str(self.data), "--ingest", self.ingest_endpoint, "--push", self.push_endpoint,
            "--feed", self.feed_endpoint, "--metrics", "127.0.0.1:0", *flags, env=env, prefix=self.prefix,
        )  # fmt: skip
        if ready:
            process.wait_for("ready")
        return process

    def query(self, *flags: str, caught_up: bool = True, env: Mapping[str, str] | None = None) -> tuple[Process, str]:
        """Start a query process; returns it and the URL that it serves."""
        process = self.query_process(*flags, env=env)
        url = f"http://{process.wait_for('listening')['http']}"
        if caught_up:
            process.wait_for("caught_up")
        return process, url

    def query_process(self, *flags: str, env: Mapping[str, str] | None = None) -> Process:
        """Start a query process and wait for nothing."""
        return Process(
            "runlake_query", "--data", str(self.data), "--http", "127.0.0.1:0", "--ingest", self.ingest_endpoint,
            "--feed", self.feed_endpoint, *flags, env=self.env | dict(env or {}), prefix=self.prefix,
        )  # fmt: skip


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Poll a condition that cannot announce itself, with a deadline."""
    end = time.monotonic() + deadline_s
    for _ in pauses():
        if condition():
            return
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"


def pauses(seconds: float = 0.01) -> Iterator[None]:
    """An endless sequence of turns of polling, a little apart."""
    event = threading.Event()
    while True:
        yield
        event.wait(seconds)
