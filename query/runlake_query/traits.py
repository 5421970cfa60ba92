"""What no run of a read model has or is, so that queries need not look at it: found once for each state."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from runlake_query.model import State


class Traits(NamedTuple):
    """`all_started`: the start of every run has come; `used_fields`: those that some run may have."""

    all_started: bool
    used_fields: frozenset[str]


class KeptTraits:
    """Those of the state that was asked of last. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[State, Traits] | None = None

    def of(self, state: State, find: Callable[[], Traits]) -> Traits:
        """As kept, or by `find`."""
        with self._lock:
            kept = self._kept
        if kept is not None and kept[0] == state:
            return kept[1]
        found = find()
        with self._lock:
            self._kept = state, found
        return found
