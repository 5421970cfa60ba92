"""About when the runs of a long history have started: so a page of a list is looked for in a stretch of it alone.

Runs are stored about in the order of their starts, and DuckDB skips what is outside a range of them. A sample says when
shares of the runs had started; it is only a guess of where a stretch may begin: whoever finds too little in one looks
at all runs.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from typing import NamedTuple

from runlake.sqlfile import load_queries
from runlake_query.model import MANY_RUNS
from runlake_query.reader import Snapshot

_SQL = load_queries("runlake_query", "runs.sql")
_STEPS = 256
_SHARES = [step / _STEPS for step in range(_STEPS)]
_PERCENT = 4
_TIMES_AS_MANY = 2
"""How many times as many runs as are wanted a stretch should hold."""
_GROWTH = 0.01
"""A new sample is taken when so many more messages have been applied, as a share of the runs."""


class _Sample(NamedTuple):
    messages: int
    """Applied when it was taken."""
    runs: int
    starts: list[int]
    """For each share, in microseconds since 1970; none of few runs."""


class StartTimes:
    """The last sample. Any thread."""

    def __init__(self, least_runs: int = MANY_RUNS, percent: float = _PERCENT) -> None:
        self._least_runs = least_runs
        self._query = _SQL["starts"].format(shares=_SHARES, percent=percent)
        self._lock = threading.Lock()
        self._sample: _Sample | None = None

    def any(self, snapshot: Snapshot) -> bool:
        """Whether there are so many runs that a stretch is worth it."""
        return bool(self._at(snapshot).starts)

    def since(self, snapshot: Snapshot, wanted: int, total: int, until: int | None = None) -> int | None:
        """A start (in microseconds since 1970) from which on about enough runs are, where `total` of them match and
        `wanted` are to be found; before `until`, when that is given. None where nearly all would have to be looked at.
        """
        starts = self._at(snapshot).starts
        if not starts or not total:
            return None
        end = len(starts) if until is None else bisect_right(starts, until)
        first = end - 1 - int(_TIMES_AS_MANY * wanted / total * len(starts))
        if first <= 0:
            return None
        return starts[first]

    def _at(self, snapshot: Snapshot) -> _Sample:
        messages = sum(snapshot.positions.values())
        with self._lock:
            known = self._sample
        if known is not None and 0 <= messages - known.messages <= _GROWTH * known.runs:
            return known
        runs, starts = snapshot.one(self._query)
        taken = _Sample(messages, runs, list(starts or []) if runs >= self._least_runs else [])
        with self._lock:
            self._sample = taken
        return taken
