"""Keeps children running until it is told to stop. The heart of `runlake up`.

One thread, which waits in one place: for output of the children, for signals, for the next restart. A child that dies
is started again, later each time (`child.py`). Two ends are no accident and stop everything: exit status 2 (a wrong
setting), and a child that gives up by itself before it was ever ready (a port that is taken).

On SIGINT, SIGTERM or SIGHUP the children get one SIGTERM, and SIGKILL after `stop_timeout_s` or at the second signal.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from runlake.cli.child import Child
from runlake.cli.failure import FAILED, USAGE

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_READY_EVENTS = {"ingest": "ready", "query": "caught_up"}
_MAX_WAIT_S = 60.0


class Reporter(Protocol):
    """Hears what happens."""

    def started(self, name: str, pid: int) -> None: ...
    def said(self, name: str, line: str, event: dict[str, Any] | None) -> None: ...
    def all_ready(self) -> None: ...
    def died(self, name: str, code: int, restart_in_s: float) -> None: ...
    def gave_up(self, name: str, code: int, words: str) -> None: ...
    def stopping(self, reason: str) -> None: ...
    def killed(self, name: str) -> None: ...
    def stopped(self) -> None: ...


class Supervisor:
    """Runs `children` until it is told to stop. Use `run` once, in the main thread."""

    def __init__(self, children: Sequence[Child], reporter: Reporter, stop_timeout_s: float) -> None:
        self._children = children
        self._reporter = reporter
        self._stop_timeout_s = stop_timeout_s
        self._selector = selectors.DefaultSelector()
        self._signals: deque[int] = deque()
        self._last_error: dict[str, str] = {}
        self._ready: set[str] = set()
        self._kill_at: float | None = None
        self._status = 0

    def run(self) -> int:
        """Start all, and return when all have ended: 0 when they stopped as told, 1 or 2 otherwise."""
        with self._hearing_signals():
            try:
                for child in self._children:
                    self._start(child)
                while self._kill_at is None or any(child.pid for child in self._children):
                    self._wait()
                    self._take_signals()
                    for child in self._children:
                        self._look_after(child)
                    self._kill_when_due()
            finally:
                for child in self._children:  # only after an error of our own
                    child.signal(signal.SIGKILL)
                self._selector.close()
        self._reporter.stopped()
        return self._status

    def _start(self, child: Child) -> None:
        child.start(time.monotonic())
        self._last_error.pop(child.name, None)
        self._selector.register(child.output, selectors.EVENT_READ, child)
        self._reporter.started(child.name, child.pid or 0)

    def _wait(self) -> None:
        now = time.monotonic()
        moments = [child.restart_at for child in self._children] + [self._kill_at]
        waits = [moment - now for moment in moments if moment is not None]
        for key, _ in self._selector.select(max(0.0, min(waits, default=_MAX_WAIT_S))):
            if isinstance(key.data, Child):
                self._hear(key.data)
            else:
                os.read(key.fd, 4096)

    def _hear(self, child: Child) -> None:
        """Pass on what a child has said."""
        for line in child.lines():
            event = _log_event(line)
            if event is None:
                child.tail.append(line)
            elif event.get("level") == "error":
                self._last_error[child.name] = str(event.get("reason") or event.get("error") or event["event"])
            self._reporter.said(child.name, line, event)
            if event is not None and event["event"] == _READY_EVENTS.get(child.name):
                self._is_ready(child)
        if child.said_all and child.output in self._selector.get_map():
            self._selector.unregister(child.output)

    def _is_ready(self, child: Child) -> None:
        child.was_ready = True
        self._ready.add(child.name)
        if len(self._ready) == len(self._children) and self._kill_at is None:
            self._reporter.all_ready()

    def _look_after(self, child: Child) -> None:
        now = time.monotonic()
        code = child.exit_code()
        if code is not None:
            self._hear(child)
            if child.output in self._selector.get_map():  # a process of its own still holds it
                self._selector.unregister(child.output)
            self._ready.discard(child.name)
            wait = child.forget(now)
            if self._kill_at is not None:
                child.restart_at = None
                if code not in (0, -signal.SIGTERM):  # it was told to stop, and failed at that
                    self._status = self._status or FAILED
            elif code == USAGE or (code > 0 and not child.was_ready):
                child.restart_at = None
                self._status = USAGE if code == USAGE else FAILED
                self._reporter.gave_up(child.name, code, self._last_error.get(child.name) or "\n".join(child.tail))
                self._stop(f"{child.name} cannot run")
            else:
                self._reporter.died(child.name, code, wait)
        elif child.restart_at is not None and child.restart_at <= now and self._kill_at is None:
            self._start(child)

    def _take_signals(self) -> None:
        while self._signals:
            number = signal.Signals(self._signals.popleft())
            if self._kill_at is None:
                self._stop(number.name)
            else:
                self._kill_at = 0.0

    def _stop(self, reason: str) -> None:
        self._kill_at = time.monotonic() + self._stop_timeout_s
        self._reporter.stopping(reason)
        for child in self._children:
            child.restart_at = None
            child.signal(signal.SIGTERM)

    def _kill_when_due(self) -> None:
        if self._kill_at is None or self._kill_at > time.monotonic():
            return
        self._kill_at = time.monotonic() + _MAX_WAIT_S
        for child in self._children:
            if child.pid:
                child.signal(signal.SIGKILL)
                self._reporter.killed(child.name)
                self._status = FAILED

    @contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        """Signals wake the selector through a pipe, so that none is missed between a look and a wait."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(reader, selectors.EVENT_READ)
        before_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        before = {number: signal.signal(number, self._note) for number in _STOPPING}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before_fd)
            os.close(reader)
            os.close(writer)

    def _note(self, number: int, _frame: object) -> None:
        self._signals.append(number)


def _log_event(line: str) -> dict[str, Any] | None:
    """The log event that a line is, or None when it is something else."""
    if not line.startswith("{"):
        return None
    try:
        event = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
