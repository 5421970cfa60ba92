"""DuckDB's background threads: there while something takes long, away while everything is short.

DuckDB hands the work of every statement, however small, to its background threads, wakes them for it, and has the
thread that asked wait for them in a loop that takes Python's lock each time. For a long read that is what makes it
fast; applying a message of the feed takes three times as long by it (measured: 20 ms and 6 ms). So whoever reads or
applies much says so, and once it has been at work for a moment the background threads come and take up what DuckDB has
in store for them. A statement that began without them is cut into as many parts, and does them by itself until then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import duckdb

_LONG_S = 0.02
"""Who has been at work for so long gets help …"""
_LOOK_S = 0.01
"""… which is seen within so long …"""
_LINGER_S = 0.25
"""… which stays for so long after it: to let it come and go costs some milliseconds."""


class Helpers:
    """Of one DuckDB, in which nobody else sets `external_threads`. `close` it before its connection.

    The clock: seconds, monotonic.
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, clock: Callable[[], float] = time.monotonic) -> None:
        self._cursor = cursor
        self._clock = clock
        (self._threads,) = cursor.execute("SELECT current_setting('threads')::INTEGER").fetchall()[0]
        self._since: dict[object, float] = {}
        self._some = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="helpers", daemon=True)
        self._set(present=False)
        self._thread.start()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Around what may take long. Costs next to nothing for what does not. From any thread."""
        ticket = object()
        self._since[ticket] = self._clock()
        if not self._some.is_set():
            self._some.set()
        try:
            yield
        finally:
            del self._since[ticket]

    def close(self) -> None:
        """Idempotent."""
        self._closing.set()
        self._some.set()
        self._thread.join()
        self._cursor.close()

    def _run(self) -> None:
        present = False
        stay_until = 0.0
        while not self._closing.is_set():
            self._some.wait()
            self._closing.wait(_LOOK_S)
            now = self._clock()
            oldest = min(list(self._since.values()), default=now)
            if now - oldest >= _LONG_S:
                stay_until = now + _LINGER_S
            if present != (now < stay_until):
                present = not present
                self._set(present=present)
            if not self._since and not present:
                self._some.clear()
                if self._since:  # it came in between
                    self._some.set()

    def _set(self, *, present: bool) -> None:
        """Threads that DuckDB takes for somebody else's are none that it starts; the thread that asks is always one."""
        with suppress(duckdb.Error):  # of a damaged read model: whoever reads it or writes to it tells
            self._cursor.execute(f"SET GLOBAL external_threads = {1 if present else self._threads}")
