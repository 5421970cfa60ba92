"""Where the first page of a list ended when it was read last: few runs are to be looked at for the next one.

Runs come at the newer end. So the page is found among those from the last one's end on, as long as these are enough to
fill it; when they are not, because runs have left the list, all of it is looked at again.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple
from uuid import UUID

from runlake_query.filters import Where

_MAX_KEPT = 1_000
_MAX_MORE = 1_000
"""After so many more runs the end is taken anew. Until then its query stays the same, and so does the plan of it."""
_Key = tuple[str, tuple[tuple[str, Any], ...], int]


class Place(NamedTuple):
    """A run's place in a list: its start in microseconds since 1970, and its event_id."""

    start_us: int
    event_id: UUID


class NewestPages:
    """The ends of first pages by condition and limit, bounded in number. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[_Key, tuple[Place, int]] = {}

    def end(self, condition: Where, limit: int, total: int) -> Place | None:
        """The last run of the page when it was read last, unless the list of now `total` has grown much since."""
        with self._lock:
            known = self._ends.get(_key(condition, limit))
        return known[0] if known is not None and total <= known[1] + _MAX_MORE else None

    def ended(self, condition: Where, limit: int, total: int, end: Place) -> None:
        """The page of a list of `total` runs ends with this run."""
        with self._lock:
            if len(self._ends) >= _MAX_KEPT:
                self._ends.clear()
            self._ends[_key(condition, limit)] = end, total


def _key(condition: Where, limit: int) -> _Key:
    return condition.sql, tuple(sorted(condition.values.items())), limit
