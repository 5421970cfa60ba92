"""Which running runs have promised a sign of life, and which of them have not given it.

A run promises with `heartbeat_until`. It is stale when that has passed while it is `running` and nothing was heard of
it after: neither a later promise, nor an end, nor an event with a later time. Times are the run's own, so that what
comes late counts for when it was said.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID


class Promise(NamedTuple):
    """A promise of a running run. Times in microseconds since 1970."""

    event_id: UUID
    run_id: str
    agent_name: str
    job_type: str
    until_us: int
    last_event_us: int
    """The latest time of its events; 0 without any."""

    def broken(self, at_us: int) -> bool:
        return self.until_us < at_us and self.last_event_us <= self.until_us


class Promises:
    """Of all runs as committed. Written by the follower's thread, read by any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._promises: dict[UUID, Promise] = {}

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self._promises)

    def restart(self, promises: Iterable[Promise]) -> None:
        """These are all."""
        found = {promise.event_id: promise for promise in promises}
        with self._lock:
            self._promises = found

    def changed(self, promises: Iterable[Promise], of: Iterable[UUID]) -> None:
        """Of these runs, all that have changed, there are these promises now."""
        with self._lock:
            for event_id in of:
                self._promises.pop(event_id, None)
            self._promises.update((promise.event_id, promise) for promise in promises)

    def spoke(self, heard: Iterable[tuple[UUID, int]]) -> None:
        """Runs have events up to these times."""
        with self._lock:
            for event_id, at_us in heard:
                promise = self._promises.get(event_id)
                if promise is not None and at_us > promise.last_event_us:
                    self._promises[event_id] = promise._replace(last_event_us=at_us)

    def broken(self, at_us: int) -> dict[UUID, Promise]:
        """Those of stale runs, at this time."""
        with self._lock:
            return {key: promise for key, promise in self._promises.items() if promise.broken(at_us)}
