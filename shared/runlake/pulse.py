"""Whether a process is run and its wall clock goes evenly, as seen by a loop of its own that turns all the time."""

from __future__ import annotations

import time
from collections.abc import Callable

from runlake.logs import Log

_STALL_S = 2.0
_JUMP_S = 1.0


class Pulse:
    """Tells of turns that came too late (the process was stopped, starved, or busy) and of jumps of the wall clock.

    `turn_s`: how far apart turns are when all is well. A clock that is set right little by little does not jump.
    """

    def __init__(
        self,
        log: Log,
        turn_s: float,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._turn_s = turn_s
        self._monotonic = monotonic
        self._wall = wall
        self._last: tuple[float, float] | None = None

    def beat(self) -> None:
        """The loop turns."""
        now, wall = self._monotonic(), self._wall()
        if self._last is not None:
            passed, by_wall = now - self._last[0], wall - self._last[1]
            if passed - self._turn_s >= _STALL_S:
                self._log.warning("stalled", seconds=round(passed, 1))
            if abs(by_wall - passed) >= _JUMP_S:
                self._log.warning("clock_jumped", seconds=round(by_wall - passed, 1))
        self._last = now, wall
