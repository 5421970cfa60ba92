"""Coming to hold a worker's lease: at once, or after a process that is dead or cut off, which the server still has.

Who holds a lease says something every second. One that has been silent for 10 s is ended, and its lock with it; one
that speaks on is left alone. The fence (`Members.fence`) makes that safe: who was ended writes nothing any more, even
if it comes back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal
from uuid import UUID

from runlake.lake.members import Members, lock_key

SILENT_S = 10.0
"""The server's own keepalives find a host that is gone after 11 s; a process that was stopped, never."""
_HEARD_AGAIN_S = 2.0

Held = Literal["mine", "by one that is silent", "by one that runs"]


class LeaseLock:
    """Of one worker. `clock`: seconds, for spans."""

    def __init__(self, worker: UUID, clock: Callable[[], float] = time.monotonic) -> None:
        self._worker = worker
        self._clock = clock
        self._asked_since: float | None = None

    def take(self, members: Members) -> Held:
        """Take the lock for this connection, if it can be had. While it is "by one that is silent", ask again: soon
        there is another answer. Raises LakeUnavailable."""
        now = self._clock()
        if self._is_taken(members):
            return "mine"
        if self._asked_since is None:
            self._asked_since = now
        silence = members.silence_s(self._worker)
        if silence is not None and silence >= SILENT_S:
            members.end_holders(self._worker)
            if self._is_taken(members):
                return "mine"
        asked_for = now - self._asked_since
        if silence is not None and asked_for >= _HEARD_AGAIN_S and silence < asked_for:
            self._asked_since = None
            return "by one that runs"
        return "by one that is silent"

    def _is_taken(self, members: Members) -> bool:
        taken = members.try_lock(lock_key("lease", self._worker))
        if taken:
            self._asked_since = None
        return taken
