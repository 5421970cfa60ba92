"""A counter that any thread and any signal handler may raise without a lock."""

from __future__ import annotations

from itertools import count


class Tally:
    """Counts up. `add` is one call into C, so that nothing can come between its reading and its writing."""

    __slots__ = ("_count", "add")

    def __init__(self) -> None:
        self._count = count()
        self.add = self._count.__next__
        """Raise the counter by one."""

    @property
    def value(self) -> int:
        """How often `add` was called."""
        return int(repr(self._count)[len("count(") : -1])  # `next` would count the reader too
