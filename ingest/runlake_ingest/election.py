"""Which worker of a cluster looks after the lake: who gets the lock when a cycle begins, until that cycle ends."""

from __future__ import annotations

from runlake.errors import LakeUnavailable
from runlake.lake.members import lock_key
from runlake.logs import Log
from runlake_ingest.lease import Lease

_KEY = lock_key("maintenance")


class LockElection:
    """By an advisory lock on the connection of the lease: who loses that loses this too."""

    def __init__(self, lease: Lease, log: Log) -> None:
        self._lease = lease
        self._log = log

    def win(self) -> bool:
        return self._lease.ask(lambda members: members.try_lock(_KEY))

    def release(self) -> None:
        try:
            self._lease.ask(lambda members: members.unlock(_KEY))
        except LakeUnavailable as error:  # the lock went with the connection
            self._log.debug("lease_lost", reason=str(error))
