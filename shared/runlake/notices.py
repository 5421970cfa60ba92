"""What the SDK has to tell the people who run an agent: rarely, and never on the agent's own threads."""

from __future__ import annotations

from collections import deque
from time import monotonic

QUIET_S = 60.0
_MAX_KEYS = 256


class Notices:
    """Collects notices from any thread; the sender thread writes them to the logger `runlake`.

    One of each kind in a minute. Handing one over takes no lock and does no I/O, so that it may come from a signal
    handler, and a logging handler that emits messages cannot call itself.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, str]] = deque(maxlen=100)
        self._quiet_until: dict[str, float] = {}

    def say(self, kind: str, text: str) -> None:
        """Leave a notice; `kind` is what is not repeated within a minute."""
        self._waiting.append((kind, text))

    def write(self) -> None:
        """Log what is waiting. Called by the sender thread alone."""
        while self._waiting:
            kind, text = self._waiting.popleft()
            now = monotonic()
            if now < self._quiet_until.get(kind, 0.0):
                continue
            if len(self._quiet_until) >= _MAX_KEYS:
                self._quiet_until.clear()
            self._quiet_until[kind] = now + QUIET_S
            import logging  # noqa: PLC0415 (an agent without notices does without it)

            logging.getLogger("runlake").warning("%s", text)
