"""Dedupe: one `event_id` is accepted once over the whole history, in bounded memory.

The window holds the ids of every accepted message whose time is at or after the horizon, in buckets of time, and of
every message that is not in the lake yet. So for a message at or after the horizon the window decides alone. For one
before the horizon that the window does not hold, the lake decides (`lookup.py`).

Copies of one message carry one time, which is what makes the horizon a sharp line: an id is looked for where it was
put. Within the window the id alone decides, whatever time a copy carries.

The horizon rises under memory pressure, a bucket at a time; it never sinks. What it rises past and is not in the lake
yet is let go with the flush that brings it there. So the window holds at most `max_ids` ids, and those not flushed.
While a look-up is under way nothing is let go (`hold`), for its answer may be older than a flush that it did not see.
"""

from __future__ import annotations

import bisect
import collections
import heapq
from enum import Enum

BUCKET_SECONDS = 10
_BUCKET_COST = 4
"""An almost empty bucket takes about as much memory as this many ids."""
_MAX_ENDS = 1_000
"""Of how many flushed segments the end is known; those before them ended no later than the first of these."""


class Verdict(Enum):
    NEW = "new"
    DUPLICATE = "duplicate"
    LATE = "late"  # the window cannot know; ask the lake


class Window:
    """Not thread-safe: the receiver's alone. Ids are 128-bit integers, times Unix seconds, segments rise."""

    def __init__(self, max_ids: int, horizon: int = 0, segment: int = 0, seq: int = 0) -> None:
        """`segment` and `seq` are the last ones that are in the lake. With a horizon, older ids are not in here."""
        self._max_ids = max_ids
        self._horizon_bucket = -(-horizon // BUCKET_SECONDS)
        self._ids: set[int] = set()
        self._buckets: dict[int, list[int]] = {}
        self._order: list[int] = []  # a heap of the buckets' numbers
        self._newest_segment: dict[int, int] = {}
        self._late_in: collections.defaultdict[int, list[int]] = collections.defaultdict(
            list
        )  # by segment: before the horizon, not in the lake
        self._bucketed = 0  # ids in buckets
        self._flushed = segment
        self._ends = collections.deque([(segment, seq)], _MAX_ENDS)  # of flushed segments: number and last position
        self.forgotten = seq if horizon > 0 else 0
        """Every id that was let go is at or before this position, if not a little earlier."""
        self._held = False

    @property
    def horizon(self) -> int:
        """Unix seconds: the window decides alone for messages at or after this."""
        return self._horizon_bucket * BUCKET_SECONDS

    def __len__(self) -> int:
        """How many ids it holds."""
        return len(self._ids)

    def admit(self, event_id: int, time: int, segment: int) -> bool:
        """Remember an accepted message that goes into `segment` (0: it is in the lake already).

        False, and nothing changes, when its id is known. Of one before the horizon the lake has been asked.
        """
        ids = self._ids
        before = len(ids)
        ids.add(event_id)
        if len(ids) == before:
            return False
        bucket = time // BUCKET_SECONDS
        if bucket < self._horizon_bucket:
            self._late_in[segment].append(event_id)
            return True
        of_bucket = self._buckets.get(bucket)
        if of_bucket is None:
            of_bucket = self._buckets[bucket] = []
            heapq.heappush(self._order, bucket)
        of_bucket.append(event_id)
        self._bucketed += 1
        self._newest_segment[bucket] = segment
        return True

    def judge(self, event_id: int, time: int) -> Verdict:
        """What the window knows of a message."""
        if event_id in self._ids:
            return Verdict.DUPLICATE
        return Verdict.NEW if time >= self.horizon else Verdict.LATE

    def flushed(self, segment: int, last_seq: int) -> None:
        """All segments up to this one, which ends at `last_seq`, are in the lake."""
        if segment > self._flushed:
            self._flushed = segment
            self._ends.append((segment, last_seq))
        self._let_go()

    def withdraw(self, refused: frozenset[int]) -> None:
        """Forget ids whose messages the lake refused: mended, they may come again."""
        if not refused:
            return
        self._ids -= refused
        for held in (*self._buckets.values(), *self._late_in.values()):
            held[:] = [event_id for event_id in held if event_id not in refused]
        self._bucketed = sum(map(len, self._buckets.values()))

    def hold(self) -> None:
        """A look-up begins: let nothing go until `release`."""
        self._held = True

    def release(self) -> None:
        """The look-up's answer has been used."""
        self._held = False
        self._let_go()

    def _let_go(self) -> None:
        if self._held:
            return
        for segment in [s for s in self._late_in if s <= self._flushed]:
            self._forget(segment, self._late_in.pop(segment))
        while self._order and self._bucketed + _BUCKET_COST * len(self._buckets) > self._max_ids:
            bucket = heapq.heappop(self._order)
            ids = self._buckets.pop(bucket)
            self._bucketed -= len(ids)
            segment = self._newest_segment.pop(bucket)
            if segment > self._flushed:
                self._late_in[segment] += ids
            else:
                self._forget(segment, ids)
            self._horizon_bucket = max(self._horizon_bucket, bucket + 1)

    def _forget(self, segment: int, ids: list[int]) -> None:
        """Let go of ids that are in this segment or before it, all of it in the lake."""
        self._ids.difference_update(ids)
        if ids:
            first = bisect.bisect_left(self._ends, segment, key=lambda end: end[0])
            self.forgotten = max(self.forgotten, self._ends[min(first, len(self._ends) - 1)][1])
