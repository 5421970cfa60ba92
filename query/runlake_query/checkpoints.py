"""When the read model is written to its file.

It has no write-ahead log: a commit costs no fsync, and a read model that is killed is as it was at the last checkpoint,
rows and positions alike. The lake has the rest, and the log of the feed what is not in the lake yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import duckdb

_EVERY_S = 60.0
"""At most so much is applied again after a kill, as time goes by …"""
_EVERY_MESSAGES = 250_000
"""… and as messages come."""
_AGAIN_S = 1.0
"""After so long it is tried again, when a reader was in the way."""


class Checkpoints:
    """Of the follower's thread, between transactions. The clock: seconds, monotonic."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        on_written: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cursor = cursor
        self._on_written = on_written
        self._clock = clock
        self._messages = 0
        self._dirty = False
        self._due = clock() + _EVERY_S
        self._not_before = clock()

    def applied(self, messages: int) -> None:
        """Something was committed; write it when it is time. Raises duckdb.Error."""
        self._dirty = True
        self._messages += messages
        if self._messages >= _EVERY_MESSAGES or self._clock() >= self._due:
            self.write()

    def write(self) -> None:
        """Write what was committed, when there is anything. A transaction that needs what would go puts it off."""
        if not self._dirty or self._clock() < self._not_before:
            return
        try:
            self._cursor.execute("CHECKPOINT")
        except duckdb.TransactionException:
            self._not_before = self._clock() + _AGAIN_S
            return
        self._messages, self._dirty, self._due = 0, False, self._clock() + _EVERY_S
        self._on_written()
