"""How far the follower is: told by its thread, asked and awaited by the requests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple
from uuid import UUID

from runlake_query.positions import Positions, reaches

FEED_SILENCE_S = 2.0
"""After so long without a heartbeat (one comes every half second) the feed tells nothing about the lag any more."""


class State(NamedTuple):
    """What the follower is doing. `reason` says why it is not following, when it is not."""

    caught_up: bool
    """Whether the read model has been in step with the lake since this process started."""
    following: bool
    """Whether the last look at the lake went well."""
    reason: str
    failures: int
    """Unexpected errors since the start."""


class Counts(NamedTuple):
    """What the follower has done since the start."""

    fed: int = 0
    """Messages applied from the feed."""
    from_lake: int = 0
    """Messages applied from the lake, because the feed had not brought them."""
    catch_ups: int = 0
    """Spans of the lake that had such messages."""
    gaps: int = 0
    """How often the feed did not follow what was reflected."""
    late: int = 0
    """Groups of the feed that were reflected already, or came twice."""
    dropped: int = 0
    """Groups of the feed for which there was no room; they come from the lake."""
    refused: int = 0
    """Messages and spans of the feed that could not be read."""
    repriced: int = 0
    """Runs whose cost was computed anew, by another price list."""


class _Waiter:
    """Somebody on an event loop who waits for positions."""

    def __init__(self, wanted: Positions) -> None:
        self.wanted = wanted
        self.loop = asyncio.get_running_loop()
        self.reached: asyncio.Future[bool] = self.loop.create_future()

    def tell(self, reached: bool) -> None:
        """On its loop."""
        if not self.reached.done():
            self.reached.set_result(reached)


class Progress:
    """Shared by the follower and the event loop. Clocks in seconds, monotonic.

    The feed counts as heard when that is so of every worker: of those that `expect` has named, else of as many as there
    are `feeds`. What comes of one does not hide that another is silent.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, feeds: int = 1) -> None:
        self._clock = clock
        self._feeds = feeds
        self._lock = threading.Lock()
        self._positions: Positions = {}
        self._in_step_at = clock()
        self._state = State(caught_up=False, following=False, reason="The follower has not started yet.", failures=0)
        self._counts = Counts()
        self._known: dict[UUID, tuple[int, float]] = {}
        self._heard_at: dict[UUID, float] = {}
        self._expected: frozenset[UUID] = frozenset()
        self._waiting: set[_Waiter] = set()

    @property
    def state(self) -> State:
        with self._lock:
            return self._state

    @property
    def positions(self) -> Positions:
        """What has been applied and committed."""
        with self._lock:
            return self._positions

    @property
    def counts(self) -> Counts:
        with self._lock:
            return self._counts

    def count(self, **more: int) -> None:
        """Add to the counts, by their names."""
        with self._lock:
            self._counts = Counts(**{name: old + more.get(name, 0) for name, old in self._counts._asdict().items()})

    def expect(self, workers: Iterable[UUID]) -> None:
        """These are all workers there are: each of them must be heard."""
        with self._lock:
            self._expected = frozenset(workers)

    @property
    def feed_live(self) -> bool:
        """Whether the feed of every worker is heard."""
        with self._lock:
            return self._feed_live()

    @property
    def heard_workers(self) -> dict[UUID, bool]:
        """Of every worker that is expected, or else was ever heard, whether its feed is heard now."""
        with self._lock:
            return {worker: self._is_heard(worker) for worker in sorted(self._expected or self._heard_at)}

    @property
    def feed_silence_s(self) -> float | None:
        """How long ago, in seconds, the worker was last heard that is silent the longest; None when one never was."""
        with self._lock:
            heard = [self._heard_at.get(worker) for worker in self._expected]
            if not heard:
                heard = [*sorted(self._heard_at.values(), reverse=True), *([None] * self._feeds)][: self._feeds]
            times = [at for at in heard if at is not None]
            return max(0.0, self._clock() - min(times)) if len(times) == len(heard) else None

    def lag_ms(self) -> int:
        """For how long, in milliseconds, the read model may have lacked something that is durable.

        While every worker's feed is heard: since when the oldest message is known that is not applied; 0 without one.
        Else how long ago the read model was last known to hold all that the lake holds.
        """
        with self._lock:
            now = self._clock()
            if self._state.caught_up and self._feed_live():
                missing = [
                    at
                    for worker, (seq, at) in self._known.items()
                    if self._positions.get(worker, 0) < seq and (not self._expected or worker in self._expected)
                ]
                return max(0, round((now - min(missing, default=now)) * 1000))
            return max(0, round((now - self._in_step_at) * 1000))

    def heard(self, worker: UUID, durable: int) -> None:
        """The feed says that a worker has this much on its disk."""
        with self._lock:
            now = self._heard_at[worker] = self._clock()
            known, since = self._known.get(worker, (0, now))
            if known <= self._positions.get(worker, 0):
                since = now
            self._known[worker] = (max(known, durable), since)

    def looked_at(self) -> float:
        """The time to give to `in_step`, taken before looking at the lake."""
        return self._clock()

    def applied(self, positions: Positions) -> None:
        """The read model now reflects these positions."""
        with self._lock:
            self._positions = dict(positions)
            now = self._clock()
            for worker, (seq, _) in self._known.items():
                if self._positions.get(worker, 0) >= seq:
                    self._known[worker] = (seq, now)
        self._wake()

    def _feed_live(self) -> bool:
        if self._expected:
            return all(map(self._is_heard, self._expected))
        return sum(map(self._is_heard, self._heard_at)) >= self._feeds

    def _is_heard(self, worker: UUID) -> bool:
        heard_at = self._heard_at.get(worker)
        return heard_at is not None and self._clock() - heard_at < FEED_SILENCE_S

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
            if restart:
                self._known.clear()

    async def wait_for(self, wanted: Positions, timeout: float) -> bool:
        """Wait until the read model has caught up and reflects `wanted`; False after `timeout` seconds."""
        waiter = _Waiter(wanted)
        with self._lock:
            if self._state.caught_up and reaches(self._positions, wanted):
                return True
            self._waiting.add(waiter)
        timer = waiter.loop.call_later(max(0.0, timeout), waiter.tell, False)
        try:
            return await waiter.reached
        finally:
            timer.cancel()
            with self._lock:
                self._waiting.discard(waiter)

    def _wake(self) -> None:
        """Tell those who have what they wait for: one call for each loop, however many they are."""
        ready: dict[asyncio.AbstractEventLoop, list[_Waiter]] = {}
        with self._lock:
            if not self._state.caught_up:
                return
            for waiter in self._waiting:
                if reaches(self._positions, waiter.wanted):
                    ready.setdefault(waiter.loop, []).append(waiter)
        for loop, waiters in ready.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_tell_all, waiters)


def _tell_all(waiters: list[_Waiter]) -> None:
    for waiter in waiters:
        waiter.tell(True)
