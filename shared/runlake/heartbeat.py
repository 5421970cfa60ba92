"""A run's promise of its next sign of life, and the thread that keeps it for those who ask.

A run with a heartbeat of N seconds promises that it is never silent for longer. The recorded `heartbeat_until` is half
as long again, and is renewed by what the run says anyway, at most once in a quarter of N: so a run that keeps its
promise never looks stale, though a message may be on its way for a while.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic
from weakref import WeakMethod

MIN_S = 0.05
MAX_S = 12 * 3600.0
"""Longer promises are cut to this: the worker takes no time more than a day ahead."""


class Promise:
    """When the next sign of life is due."""

    __slots__ = ("_seconds", "renew_at")

    def __init__(self, seconds: float) -> None:
        self._seconds = min(max(float(seconds), MIN_S), MAX_S)
        self.renew_at = 0.0
        """On the monotonic clock: from then on, whatever the run says renews the promise."""

    @property
    def beat_s(self) -> float:
        """How often a thread has to give a sign."""
        return self._seconds / 2

    def renew(self, now: datetime) -> datetime:
        """Promise anew. Returns `heartbeat_until`."""
        self.renew_at = monotonic() + self._seconds / 4
        return now + timedelta(seconds=self._seconds * 1.5)


class Beat:
    """A daemon thread that gives a sign of life until it is stopped, or the run is gone. It says that the process
    lives, and no more: an agent that hangs in it looks alive."""

    def __init__(self, sign: Callable[[], None], every_s: float) -> None:
        self._sign = WeakMethod(sign)
        self._every_s = every_s
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="runlake-heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Give no more signs."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            sign = self._sign()
            if sign is None:
                return
            sign()
            del sign
