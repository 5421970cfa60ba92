"""What this process knows of the log by having written it: where all of it is its own, and what of that changed runs.

A run that the read model shows at one position is known at a later one too, when everything between was written here
and nothing of that changed the run. Then a change can be answered without waiting until the read model shows it.
"""

from __future__ import annotations

from collections import deque
from uuid import UUID

_MAX_CHANGES = 50_000


class OwnWrites:
    """On the event loop, told of acks in their order. Bounded: what is forgotten counts as written by somebody else."""

    def __init__(self, max_changes: int = _MAX_CHANGES) -> None:
        self._max_changes = max_changes
        self._own_from: dict[UUID, int] = {}
        """From where on all that is accepted by a worker was written here."""
        self._through: dict[UUID, int] = {}
        self._latest: dict[UUID, tuple[UUID, int]] = {}
        """By run, the last change made here, as worker and seq."""
        self._order: deque[tuple[UUID, UUID, int]] = deque()

    def accepted(self, worker: UUID, first_seq: int, count: int) -> None:
        """These positions of a worker are messages of this process."""
        if not count:
            return
        if first_seq != self._through.get(worker, 0) + 1 or worker not in self._own_from:
            self._own_from[worker] = first_seq
        self._through[worker] = first_seq + count - 1

    def changed(self, run: UUID, worker: UUID, seq: int) -> int:
        """The message at this position changes this run; returns where the change before it is that was made here, 0
        when none is known, and the position itself when that was at another worker: nothing follows from this one's."""
        before = self._latest.get(run)
        self._latest[run] = (worker, seq)
        self._order.append((run, worker, seq))
        while len(self._order) > self._max_changes:
            forgotten, there, at = self._order.popleft()
            self._own_from[there] = max(self._own_from.get(there, 0), at + 1)
            if self._latest.get(forgotten) == (there, at):
                del self._latest[forgotten]
        if before is None:
            return 0
        return before[1] if before[0] == worker else seq

    def alone(self, worker: UUID, after: int, seq: int) -> bool:
        """Whether all positions of a worker after `after`, up to `seq`, were written here."""
        return self._own_from.get(worker, seq + 1) <= after + 1 and seq <= self._through.get(worker, 0)
