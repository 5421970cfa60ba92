"""How many runs match a list's filters: counted once for each state of the read model, however many ask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from runlake_query.filters import Where
from runlake_query.model import State

_MAX_KEPT = 1_000
_Key = tuple[str, tuple[tuple[str, Any], ...]]


class Totals:
    """Totals by condition, good for as long as nothing changes. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: State | None = None
        self._counts: dict[_Key, Future[int]] = {}
        self.counted = 0

    def of(self, condition: Where, state: State, count: Callable[[], int]) -> int:
        """The total at `state`: as counted before, or as another thread is counting it, or by `count`."""
        key = (condition.sql, _frozen(condition.values))
        with self._lock:
            if state != self._state or len(self._counts) >= _MAX_KEPT:
                self._counts, self._state = {}, state
            known = self._counts.get(key)
            if known is None:
                mine = self._counts[key] = Future()
                self.counted += 1
        if known is not None:
            try:
                return known.result()
            except Exception:  # noqa: BLE001 (whoever counted was given up; that is no reason for this one)
                return count()
        try:
            total = count()
        except BaseException as error:
            with self._lock:
                if self._counts.get(key) is mine:
                    del self._counts[key]
            mine.set_exception(error)
            raise
        mine.set_result(total)
        return total


def _frozen(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(values.items()))
