"""Who watches, and what each of them has yet to be sent. On the event loop, but for what says otherwise.

Those who watch the same (one filter, or one run) are a group: their text is made once for all of them. A group is sent
to at most so often that sending stays a bounded share of the process; what comes faster than a limit is coalesced, and
said to be: of a run its last state, of events how many there were. Who does not read is dropped, with the reason.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from runlake_query.positions import Positions
from runlake_query.streambatch import Batch, Filter, LifeItem, Selection
from runlake_query.streamframes import BatchFrames, Frame, coalesce, life_frame, lost, told
from runlake_query.subscriber import Drop, Subscriber, first_positions

MAX_SUBSCRIBERS = 4_000
MAX_FILTERS = 200
"""Different filters at a time: each is a column of one query for every span that is applied."""
_MIN_INTERVAL_S = 0.005
_INTERVAL_PER_SUBSCRIBER_S = 0.0002
MAX_RATE = 2_000
"""Frames a second to one group in the long run; beyond, they are coalesced."""
MAX_BURST = 4_000
"""Frames to one group at once, when few came before."""


class TooMany(Exception):  # noqa: N818 (named by what was found)
    """One more would be too many: of subscribers, or of different filters."""


class StreamCounts(NamedTuple):
    """What the streams of a process have done since it started, and what waits in them now."""

    connected: int
    sent: int
    """Frames given to connections: one frame to ten of them is ten."""
    coalesced: int
    """Frames of runs and events that connections were told the number of instead."""
    dropped: Mapping[Drop, int]
    refused: int
    queued_bytes: int


class _Group:
    """The subscribers of one selection."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.members: set[Subscriber] = set()
        self.frames: list[Frame] = []
        self.sent_at = 0.0
        self.allowance = float(MAX_BURST)
        self.timer: asyncio.TimerHandle | None = None


class Subscribers:
    """All of them. `filters`, `any`, `publish` and `skipped` are the follower's, on its thread."""

    def __init__(self, stale_at: Callable[[], datetime] | None = None) -> None:
        """`stale_at`: the clock that filters by `stale` go by."""
        self._stale_at = stale_at
        self._lock = threading.Lock()
        self._filters: dict[str, Filter] = {}
        self._groups: dict[Selection, _Group] = {}
        self._count = 0
        self._published: Positions = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sent = 0
        self._coalesced = 0
        """Of those who have left."""
        self._refused = 0
        self._dropped: Counter[Drop] = Counter()

    def start(self) -> None:
        """On the event loop, before the first subscriber."""
        self._loop = asyncio.get_running_loop()

    @property
    def count(self) -> int:
        return self._count

    @property
    def counts(self) -> StreamCounts:
        here = [subscriber for group in self._groups.values() for subscriber in group.members]
        return StreamCounts(
            connected=len(here),
            sent=self._sent + sum(subscriber.sent for subscriber in here),
            coalesced=self._coalesced + sum(subscriber.coalesced for subscriber in here),
            dropped=dict(self._dropped),
            refused=self._refused,
            queued_bytes=sum(subscriber.queued for subscriber in here),
        )

    def add(self, selection: Selection, condition: Filter | None, at: Positions) -> Subscriber:
        """One more, who hears what is published after `at` or later: its own `at` says it. Raises TooMany."""
        with self._lock:
            new_filter = condition is not None and selection.filter_key not in self._filters
            if self._count >= MAX_SUBSCRIBERS or (new_filter and len(self._filters) >= MAX_FILTERS):
                self._refused += 1
                raise TooMany
            if condition is not None:
                self._filters.setdefault(selection.filter_key, condition)
            group = self._groups.setdefault(selection, _Group(selection))
            self._count += 1
            published = self._published
        known = {worker: max(at.get(worker, 0), published.get(worker, 0)) for worker in {*at, *published}}
        subscriber = Subscriber(selection, known)
        group.members.add(subscriber)
        return subscriber

    def remove(self, subscriber: Subscriber) -> None:
        group = self._groups[subscriber.selection]
        group.members.discard(subscriber)
        with self._lock:
            self._count -= 1
            if not group.members:
                del self._groups[subscriber.selection]
                if group.timer is not None:
                    group.timer.cancel()
                key = subscriber.selection.filter_key
                if key and not any(selection.filter_key == key for selection in self._groups):
                    self._filters.pop(key, None)
        self._sent += subscriber.sent
        self._coalesced += subscriber.coalesced
        if subscriber.dropped:
            self._dropped[subscriber.dropped] += 1

    def close(self) -> None:
        """Tell everyone that this process stops."""
        for group in list(self._groups.values()):
            for subscriber in list(group.members):
                subscriber.drop(Drop.STOPPING, "this process stops")

    def tell(self, filters: list[str], items: list[LifeItem]) -> None:
        """Runs became stale, or revived. `passes` of the items is in the order of the keys of `filters`."""
        frames = [life_frame(item) for item in items]
        for group in list(self._groups.values()):
            key, run = group.selection.filter_key, group.selection.run
            if group.selection.type is not None or (key and key not in filters):
                continue
            at = filters.index(key) if key else -1
            group.frames += [
                made
                for item, made in zip(items, frames, strict=True)
                if (item.run == run if run is not None else at < 0 or (item.passes and item.passes[at]))
            ]
            if group.frames and group.timer is None:
                self._schedule(group)

    # On the follower's thread

    def any(self) -> bool:
        return self._count > 0

    def filters(self) -> list[tuple[str, Filter]]:
        """The filters in use, by key, as they are now."""
        with self._lock:
            found = list(self._filters.items())
        if self._stale_at is None:
            return found
        at = self._stale_at().isoformat()
        return [(key, condition.at(at)) for key, condition in found]

    def publish(self, batch: Batch, positions: Positions) -> None:
        """Hand on what was committed."""
        self._call(batch, positions)

    def skipped(self, positions: Positions, why: str) -> None:
        """What nobody could be told was committed: everyone is told that, and why."""
        self._call(None, positions, why)

    def _call(self, batch: Batch | None, positions: Positions, why: str = "") -> None:
        with self._lock:
            self._published = dict(positions)
            if not self._count:
                return
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._deliver, batch, positions, why)
            except RuntimeError:  # the loop is closed: nobody watches any more
                self._count = 0

    # On the event loop

    def _deliver(self, batch: Batch | None, positions: Positions, why: str) -> None:
        frames = BatchFrames(batch, positions) if batch is not None else None
        for group in list(self._groups.values()):
            if batch is None or frames is None:
                group.frames = [lost(positions, f"{why}; read it anew")]
            elif batch.covers(group.selection):
                group.frames += frames.of(group.selection)
            else:
                for subscriber in group.members:
                    if subscriber.at.get(batch.worker, 0) < positions.get(batch.worker, 0):
                        subscriber.hold()
            if group.frames and group.timer is None:
                self._schedule(group)

    def _schedule(self, group: _Group) -> None:
        loop = asyncio.get_running_loop()
        interval = max(_MIN_INTERVAL_S, _INTERVAL_PER_SUBSCRIBER_S * len(group.members))
        due = group.sent_at + interval
        if due <= loop.time():
            self._send(group)
        else:
            group.timer = loop.call_at(due, self._send, group)

    def _send(self, group: _Group) -> None:
        now = asyncio.get_running_loop().time()
        group.timer = None
        group.allowance = min(MAX_BURST, group.allowance + MAX_RATE * (now - group.sent_at))
        group.sent_at = now
        everything, group.frames = group.frames, []
        frames, omitted = everything, 0
        if len(everything) > group.allowance:
            frames = coalesce(everything)
            omitted = told(everything) - told(frames)
        group.allowance = max(0.0, group.allowance - len(frames))
        text = b"".join(item.data for item in frames)
        first, of_all = first_positions(frames), first_positions(everything)
        for subscriber in list(group.members):
            if omitted and (subscriber.holds or subscriber.has_some_of(of_all)):
                # Not all that was coalesced is for this one: it is told everything after its own position.
                subscriber.give(everything, b"".join(item.data for item in everything), of_all)
            else:
                subscriber.give(frames, text, first)
                subscriber.coalesced += omitted
