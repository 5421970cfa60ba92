"""The time by which silence is the run's own.

A run that says nothing may be gone. While nothing can be heard here (the worker is away, or this process is behind)
that means nothing: the clock stands still then, and for a while after, until agents have sent what they held back.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from aiohttp import web

from runlake_query.progress import FEED_SILENCE_S, Progress

GRACE_S = 30.0
"""How long the clock stands still after the worker is heard again."""


class StaleClock:
    """`utcnow` is the wall clock. Ask regularly: an interruption that nobody asked during is not known."""

    def __init__(self, progress: Progress, utcnow: Callable[[], datetime], grace_s: float = GRACE_S) -> None:
        self._progress = progress
        self._utcnow = utcnow
        self._grace = timedelta(seconds=grace_s)
        self._begun = utcnow()
        self._held: datetime | None = None
        self._back: datetime | None = None

    def now(self) -> datetime:
        """A promise that has passed at this time has been broken, as far as can be known. Any thread."""
        wall, silence_s = self._utcnow(), self._progress.feed_silence_s
        if silence_s is None:  # no worker was heard yet: nothing is known of what came since this process started
            return self._begun
        behind_s = max(silence_s, self._progress.lag_ms() / 1000)
        known = wall - timedelta(seconds=behind_s)
        if behind_s > FEED_SILENCE_S:
            self._held, self._back = self._held or known, None
            return self._held
        if self._held is None:
            return known
        self._back = back = self._back or wall
        if wall - back < self._grace:
            return self._held
        self._held = self._back = None
        return known


STALE_CLOCK = web.AppKey("stale_clock", StaleClock)


def stale_clock(request: web.Request) -> Callable[[], datetime] | None:
    """The clock of the process that answers a request."""
    clock = request.config_dict.get(STALE_CLOCK)
    return clock.now if clock is not None else None
