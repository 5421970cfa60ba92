"""Batches that wait for the lake to say whether their late messages are new, and those of the same producers behind
them.

A producer's order is kept: while one of its batches waits, its later ones wait behind it. Other producers overtake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from runlake_ingest.dedupe import Window
from runlake_ingest.intake import BatchIn, LateId, is_unsearched, late_ids


class Arrival(Struct, frozen=True):
    """A batch and whom to answer; `peer` is None for a bare pusher."""

    peer: bytes | None
    batch: BatchIn


class Waiting:
    """Not thread-safe: the receiver's alone."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._arrivals: list[Arrival] = []
        self._producers: Counter[str] = Counter()
        self.size = 0
        """Bytes of the payloads that wait."""

    def __len__(self) -> int:
        return len(self._arrivals)

    def must_wait(self, batch: BatchIn) -> bool:
        """Whether the batch cannot be judged now, or would overtake one of its own producer."""
        if batch.producer in self._producers:
            return True
        if batch.earliest() >= self._window.horizon and not is_unsearched(batch, self._window):
            return False
        return next(late_ids(batch, self._window), None) is not None

    def add(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)
        self._producers[arrival.batch.producer] += 1
        self.size += arrival.batch.size

    def question(self) -> list[LateId]:
        """What to ask the lake for all that waits; [] when there is nothing to ask."""
        return list({late for arrival in self._arrivals for late in late_ids(arrival.batch, self._window)})

    def resolved(self, answer: dict[LateId, bool]) -> Iterator[Arrival]:
        """Take out, in order, each batch that can be judged with this answer. Judge each before asking for the next."""
        arrivals, self._arrivals = self._arrivals, []
        still: set[str] = set()
        for arrival in arrivals:
            batch = arrival.batch
            if batch.producer in still or any(late not in answer for late in late_ids(batch, self._window)):
                still.add(batch.producer)
                self._arrivals.append(arrival)
                continue
            self._producers -= Counter((batch.producer,))
            self.size -= batch.size
            yield arrival
