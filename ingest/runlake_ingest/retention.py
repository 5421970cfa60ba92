"""When runs and refused messages are removed: which steps of `runlake.lake.maintenance` are due for it.

What is removed is refused before: rules change first (`expiry.py`), the lake after. A run to be forgotten is removed
once all that was accepted for it has come to the lake, and again at every start, for a journal may have held more.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from runlake.lake.maintenance import Done, Step
from runlake_ingest.expiry import Expiry
from runlake_ingest.lakewriter import LakeWriter

_EVERY_S = 600.0
"""How often to look for what has become old: to find it the lake's times are read."""


_PASSES = 3


class Retention:
    """Of the flusher's thread. Ages in seconds; 0 keeps all. `flushed` tells up to where the lake has the log.

    `clustered`: other workers take messages too, and learn of a run to be forgotten up to a cycle later than this one;
    so it is looked for in several cycles.
    """

    def __init__(
        self,
        runs_s: int = 0,
        refused_s: int = 0,
        expiry: Expiry | None = None,
        flushed: Callable[[], int] = lambda: 0,
        now: Callable[[], float] = time.time,
        clustered: bool = False,
    ) -> None:
        self._runs_s = runs_s
        self._refused_s = refused_s
        self._expiry = expiry or Expiry()
        self._flushed = flushed
        self._now = now
        self._next = 0.0
        self._passes = _PASSES if clustered else 1
        self._to_forget = self._passes if self._expiry.rules.forgotten else 0

    def steps(self, lake: LakeWriter, clock: float) -> list[Step]:
        """What is due at this moment (`clock`: monotonic seconds). Raises LakeUnavailable."""
        forgotten = self.learn(lake)
        steps = []
        if self._to_forget and self._expiry.holds_for(self._flushed()):
            steps.append(Step("forget", len(forgotten)))
        if clock >= self._next:
            self._next = clock + _EVERY_S
            if self._runs_s:
                horizon = int(self._now()) - self._runs_s
                self._expiry.change(horizon=horizon)
                steps.append(Step("retain", 0, least=horizon))
            if self._refused_s:
                steps.append(Step("refused", 0, least=int(self._now()) - self._refused_s))
        return steps

    def learn(self, lake: LakeWriter) -> frozenset[int]:
        """Refuse from now on what the lake says; returns the runs to forget. Raises LakeUnavailable."""
        before = self._expiry.rules.forgotten
        horizon, forgotten = lake.refused_rules()
        self._expiry.change(horizon=horizon, forgotten=forgotten)
        if self._expiry.rules.forgotten != before:
            self._to_forget = self._passes
        return forgotten

    def did(self, done: Done) -> None:
        """A step was done."""
        if done.step.name == "forget":
            self._to_forget = max(0, self._to_forget - 1)
