"""Somebody who waits until all that was emitted up to a position is acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event


class Waiter:
    """Each has an event of its own, so that any thread and any signal handler may wait. `on_told` is called on the
    sender's thread."""

    __slots__ = ("_on_told", "done", "gave_up", "reached", "target")

    def __init__(self, target: int, on_told: Callable[[], object] | None = None) -> None:
        self.target = target
        self.done = Event()
        self.gave_up = False
        """Whether nobody waits any more: the sender forgets it then."""
        self.reached = False
        """Whether all before the target was acknowledged; read it once `done` is set."""
        self._on_told = on_told

    def tell(self, reached: bool) -> None:
        """Wake it up."""
        self.reached = reached
        self.done.set()
        if self._on_told is not None:
            try:
                self._on_told()
            except RuntimeError:  # its event loop is gone
                return
