"""What of the feed waits to be applied: per worker the groups that follow what is reflected, in order, bounded.

Groups come late, twice, out of order or not at all. What is ahead waits for the lake, or for what is missing, to bring
the read model there; what is behind is forgotten; what does not fit is dropped, and comes from the lake.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple
from uuid import UUID

from runlake.feed import FeedGroup

MAX_BYTES = 64 * 1024 * 1024
"""Lines of one worker that wait; beyond, the groups that are the furthest ahead are dropped."""
MAX_SPAN_BYTES = 4 * 1024 * 1024
"""Lines that are applied together: some ten thousand messages."""


class FeedSpan(NamedTuple):
    """Groups without a gap between them, of one segment: what one transaction applies."""

    segment: int
    upto: int
    lines: bytes
    groups: int


class _Waiting(NamedTuple):
    group: FeedGroup
    lines: bytes


class FeedBuffer:
    """The groups of one worker. Pure: no socket, no clock."""

    def __init__(self, worker: UUID, max_bytes: int = MAX_BYTES) -> None:
        self.worker = worker
        self._max_bytes = max_bytes
        self._ahead: dict[int, _Waiting] = {}
        self._empty: list[_Waiting] = []
        self._seen: set[tuple[int, int]] = set()
        self._seen_at = 0
        self._begun_at = 0
        self.size = 0
        self.dropped = 0
        """Groups that did not fit."""
        self.late = 0
        """Groups that were reflected already, or came twice."""

    def add(self, group: FeedGroup, lines: bytes) -> None:
        """Take what came. Of two groups with one beginning, the first stays."""
        if group.flushed < self._begun_at:
            self.late += 1
        elif group.last_seq < group.first_seq:
            self._add_empty(group, lines)
        elif group.first_seq not in self._ahead:
            self._ahead[group.first_seq] = _Waiting(group, lines)
            self.size += len(lines)
        else:
            self.late += 1
        while self.size > self._max_bytes and self._ahead:
            furthest = self._ahead.pop(max(self._ahead))
            self.size -= len(furthest.lines)
            self.dropped += 1

    def begin_at(self, seq: int) -> None:
        """The worker has flushed all and goes on behind this position, or has lost what it had not flushed: what it
        told before does not follow any more."""
        self._begun_at = max(self._begun_at, seq)
        behind = [w for w in (*self._ahead.values(), *self._empty) if w.group.flushed < self._begun_at]
        self.late += len(behind)
        for waiting in behind:
            self._remove(waiting)

    def take(self, seq: int, segment: int) -> FeedSpan | None:
        """The groups that follow position `seq`, when they are there; None when nothing can be applied.

        `segment` is the last one that the lake has confirmed.
        """
        self._forget(seq, segment)
        taken: list[_Waiting] = []
        upto = seq
        size = 0
        while size < MAX_SPAN_BYTES:
            after = [waiting for waiting in self._empty if waiting.group.first_seq == upto + 1]
            following = after[0] if after else self._ahead.get(upto + 1) or self._straddling(upto)
            if following is None or (taken and following.group.segment != taken[0].group.segment):
                break
            taken.append(following)
            self._remove(following)
            size += len(following.lines)
            upto = max(upto, following.group.last_seq)
        if not taken:
            return None
        return FeedSpan(taken[0].group.segment, upto, b"".join(waiting.lines for waiting in taken), len(taken))

    @property
    def busy(self) -> bool:
        """Whether anything waits."""
        return bool(self._ahead or self._empty)

    @property
    def waiting(self) -> bool:
        """Whether groups wait that do not follow."""
        return bool(self._ahead)

    def clear(self) -> None:
        """Forget all that waits."""
        self._ahead.clear()
        self._empty.clear()
        self.size = 0

    def _add_empty(self, group: FeedGroup, lines: bytes) -> None:
        """A group without anything accepted has no position of its own: only its lines tell whether it came before."""
        key = (group.segment, zlib.crc32(lines))
        if key in self._seen:
            self.late += 1
        elif self.size + len(lines) <= self._max_bytes:
            if group.segment > self._seen_at:
                self._seen = {seen for seen in self._seen if seen[0] >= group.segment - 1}
                self._seen_at = group.segment
            self._seen.add(key)
            self._empty.append(_Waiting(group, lines))
            self.size += len(lines)

    def _straddling(self, seq: int) -> _Waiting | None:
        """A group that begins before what follows and ends after it: the lake ended within it."""
        for waiting in self._ahead.values():
            if waiting.group.first_seq <= seq < waiting.group.last_seq:
                return waiting
        return None

    def _forget(self, seq: int, segment: int) -> None:
        behind = [waiting for waiting in self._ahead.values() if waiting.group.last_seq <= seq]
        behind += [w for w in self._empty if w.group.first_seq <= seq or w.group.segment <= segment]
        self.late += len(behind)
        for waiting in behind:
            self._remove(waiting)

    def _remove(self, waiting: _Waiting) -> None:
        self.size -= len(waiting.lines)
        if waiting.group.last_seq < waiting.group.first_seq:
            self._empty.remove(waiting)
        else:
            del self._ahead[waiting.group.first_seq]
