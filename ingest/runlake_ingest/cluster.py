"""What a worker has besides when its catalog is in PostgreSQL: a lease, and a place in the list of workers.

Needs psycopg, of the extra `cluster`: imported only then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

from runlake.errors import LakeError
from runlake.lake.members import Members
from runlake.lake.place import LakePlace
from runlake.logs import Log
from runlake.wire import Member
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.election import LockElection
from runlake_ingest.journal import Segment
from runlake_ingest.lakewriter import LakeReader, LakeWriter
from runlake_ingest.lease import Lease, seconds
from runlake_ingest.leasesight import LeaseSight
from runlake_ingest.leasetoken import LeaseToken
from runlake_ingest.listchange import ListChange
from runlake_ingest.membership import Membership
from runlake_ingest.receiver import Receiver

_LOOK_EVERY_S = 1.0


class Cluster:
    """Of the worker `member`, with its own `folder`. `on_change` and `on_failure` are called on other threads."""

    def __init__(
        self,
        place: LakePlace,
        member: Member,
        folder: Path,
        on_change: Callable[[], None],
        on_failure: Callable[[BaseException], None],
        crash: CrashPoints,
        log: Log,
    ) -> None:
        self._member = member
        self._crash = crash
        self._log = log
        self._lease = Lease(place, member, LeaseToken(folder), log)
        self._membership = Membership(self._lease, member, self._number_on, on_change, on_failure, crash, log)
        self.lake = self._lease.lake
        self.election = LockElection(self._lease, log)

    @property
    def lease_held(self) -> bool:
        """Whether the lease was held when it was last looked at."""
        return self._lease.held

    @property
    def sight(self) -> LeaseSight:
        """Whether the worker may acknowledge."""
        return LeaseSight(lambda: self._lease.seen_at, seconds)

    def confirm(self) -> None:
        """Return when this process holds the lease. Raises what `Lease.confirm` does."""
        self._lease.confirm()

    def keep(self) -> None:
        """Let nobody take this process for a silent one, before the list is followed. Raises what `confirm` does."""
        if seconds() - self._lease.seen_at >= _LOOK_EVERY_S:
            self._lease.confirm()

    def fence(self) -> None:
        """Have the lake, which is there, take nothing from a process that this one has replaced. Raises what the lease
        does."""
        self._lease.ask(Members.fence)

    def refuse_foreign(self, segments: Sequence[Segment]) -> None:
        """Raise LakeError for a journal of another worker: that one may still run, and have more than this copy."""
        for segment in segments:
            if segment.worker != self._member.worker:
                raise LakeError(
                    f"The journal segment {segment.path} is of worker {segment.worker}, and this is worker"
                    f" {self._member.worker}. When that one is gone for good, `runlake workers retire {segment.worker}"
                    f" --journal {segment.path.parent}` brings it to the lake; then start this one again."
                )

    def begin(self) -> None:
        """Join an empty list, and see how things stand. Raises what the lease does."""
        self._membership.begin()

    def follow(
        self, receiver: Receiver, reader: Callable[[], LakeReader], window_ids: int, going_on: Callable[[], bool]
    ) -> ListChange:
        """Begin to follow the list of workers with this receiver."""
        change = ListChange(
            self._member.worker, self._membership, receiver, reader, window_ids, going_on, self._log
        )  # fmt: skip
        self._membership.start()
        return change

    def stop(self, timeout: float) -> None:
        """Follow no more; the lease is held until `close`."""
        self._membership.stop(timeout)

    def close(self) -> None:
        """Let another process be this worker. Idempotent."""
        self._lease.close()

    def _number_on(self, workers: Sequence[UUID], still_alone: Callable[[], None]) -> None:
        lake = LakeWriter(self.lake, self._crash, self._log, before_commit=still_alone, role="n")
        try:
            lake.open()
            lake.number_on(workers)
        finally:
            lake.close()
