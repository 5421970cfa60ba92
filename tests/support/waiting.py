"""Waiting for a condition, with a deadline, where a test has nothing better to wait on."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE_S = 20.0


def eventually(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Return once `condition` holds; fail when it does not within the deadline."""
    until = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until, "the condition did not come about in time"
        time.sleep(0.002)
