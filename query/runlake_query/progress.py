"""How far the follower is: told by its thread, asked and awaited by the requests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from runlake_query.positions import Positions, reaches


class State(NamedTuple):
    """What the follower is doing. `reason` says why it is not following, when it is not."""

    caught_up: bool
    """Whether the read model has been in step with the lake since this process started."""
    following: bool
    """Whether the last look at the lake went well."""
    reason: str
    failures: int
    """Unexpected errors since the start."""


class Progress:
    """Shared by the follower and the event loop. Clocks in seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._positions: Positions = {}
        self._in_step_at = clock()
        self._state = State(caught_up=False, following=False, reason="The follower has not started yet.", failures=0)
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @property
    def state(self) -> State:
        with self._lock:
            return self._state

    @property
    def positions(self) -> Positions:
        """What has been applied and committed."""
        with self._lock:
            return self._positions

    def lag_ms(self) -> int:
        """How long ago, in milliseconds, the read model was last known to hold all that the lake holds."""
        with self._lock:
            return max(0, round((self._clock() - self._in_step_at) * 1000))

    def looked_at(self) -> float:
        """The time to give to `in_step`, taken before looking at the lake."""
        return self._clock()

    def applied(self, positions: Positions) -> None:
        """The read model now reflects these positions."""
        with self._lock:
            self._positions = dict(positions)
        self._wake()

    def in_step(self, looked_at: float) -> None:
        """The read model holds all that the lake held at `looked_at`."""
        with self._lock:
            self._in_step_at = looked_at
            changed = not (self._state.caught_up and self._state.following)
            self._state = self._state._replace(caught_up=True, following=True, reason="")
        if changed:
            self._wake()

    def behind(self, reason: str, *, failed: bool = False, restart: bool = False) -> None:
        """The follower cannot follow now. `restart`: what the read model held is no longer an answer."""
        with self._lock:
            self._state = State(
                caught_up=self._state.caught_up and not restart,
                following=False,
                reason=reason,
                failures=self._state.failures + failed,
            )

    async def wait_for(self, wanted: Positions, timeout: float) -> bool:
        """Wait until the read model has caught up and reflects `wanted`; False after `timeout` seconds."""
        deadline = self._clock() + timeout
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiting.add(waiter)
        try:
            while True:
                waiter[1].clear()
                with self._lock:
                    if self._state.caught_up and reaches(self._positions, wanted):
                        return True
                try:
                    await asyncio.wait_for(waiter[1].wait(), deadline - self._clock())
                except TimeoutError:
                    return False
        finally:
            with self._lock:
                self._waiting.discard(waiter)

    def _wake(self) -> None:
        with self._lock:
            waiting = list(self._waiting)
        for loop, event in waiting:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # the loop is closed: nobody waits any more
                continue
