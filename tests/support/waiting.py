"""Waiting for a condition, with a deadline, where a test has nothing better to wait on."""

from __future__ import annotations

from collections.abc import Callable

from support.processes import wait_until

DEADLINE_S = 20.0


def eventually(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Return once `condition` holds; fail when it does not within the deadline."""
    wait_until(lambda: bool(condition()), "the condition came about", deadline_s)
