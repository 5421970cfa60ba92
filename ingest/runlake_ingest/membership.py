"""The worker's part in the list of workers: it follows the list, reports for a change, and ends one when all have.

`runlake.lake.members` says how a change goes. The thread asks the catalog every second, and more often during a change.
While the catalog cannot be reached nothing changes: no list can come into force without this worker's report.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from uuid import UUID

from runlake.errors import LakeUnavailable
from runlake.lake.members import Members, Standing, lock_key
from runlake.logs import Log
from runlake.wire import Member, Workers
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.lease import Lease

_EVERY_S = 1.0
_EVERY_WHILE_CHANGING_S = 0.1
_CHANGE = lock_key("change")


class Membership:
    """`standing` is for any thread to read, and `report` for any thread to call; `begin` and the rest for the owner.

    `number_on`: writes to the lake from where the workers that it is given go on, unless what it calls right before the
    COMMIT raises LakeUnavailable. `on_change` is called on the thread when there is news; `on_failure` once, with what
    ended it.
    """

    def __init__(
        self,
        lease: Lease,
        member: Member,
        number_on: Callable[[Sequence[UUID], Callable[[], None]], None],
        on_change: Callable[[], None],
        on_failure: Callable[[BaseException], None],
        crash: CrashPoints,
        log: Log,
    ) -> None:
        self._lease = lease
        self._member = member
        self._number_on = number_on
        self._on_change, self._on_failure = on_change, on_failure
        self._crash = crash
        self._log = log
        self.standing = Standing(Workers(version=0, members=[]))
        self._report_for = 0
        self._reported = 0
        self._reason = ""
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="membership", daemon=True)

    def begin(self) -> Standing:
        """Join an empty list, and see how things stand. Raises LakeUnavailable, and what the lease raises."""
        if self._lease.ask(lambda members: members.begin_with(self._member)):
            self._log.info("workers_begun", worker=self._member.worker)
        self.standing = self._lease.ask(Members.standing)
        return self.standing

    def start(self) -> None:
        self._thread.start()

    def report(self, version: int) -> None:
        """This worker takes nothing, and all that it took is in the lake: let the change to this version go on."""
        self._report_for = version
        self._wake.set()

    def stop(self, timeout: float) -> None:
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._look()
                except LakeUnavailable as error:
                    self._say(str(error))
                self._wake.wait(_EVERY_S if self.standing.next is None else _EVERY_WHILE_CHANGING_S)
                self._wake.clear()
        except BaseException as error:  # noqa: BLE001 (whatever it is, the receiver must know)
            self._on_failure(error)

    def _look(self) -> None:
        self._lease.confirm()
        standing = self._lease.ask(Members.standing)
        if standing.next is not None and self._report_for == standing.next.version:
            if self._reported != self._report_for:
                self._crash.passing("change.before_report")
                self._lease.ask(lambda members: members.report(self._report_for, self._member.worker))
                self._reported = self._report_for
                self._crash.passing("change.after_report")
                standing = self._lease.ask(Members.standing)
            if not standing.missing:
                self._end_change()
                standing = self._lease.ask(Members.standing)
        self._say("")
        if standing.next is None and self._has_moved(standing):
            self._lease.ask(lambda members: members.moved(self._member))
            self._log.info("worker_moved", endpoint=self._member.endpoint)
            standing = self._lease.ask(Members.standing)
        if standing != self.standing:
            self.standing = standing
            self._on_change()

    def _has_moved(self, standing: Standing) -> bool:
        """Whether the list says that this worker is reached somewhere else."""
        own = (member for member in standing.active.members if member.worker == self._member.worker)
        return any(member != self._member for member in own)

    def _end_change(self) -> None:
        """Write from where all number on, and put the new list in force: one worker does, the others wait for it."""
        taking = self._lease.taken

        def still_alone() -> None:
            self._lease.ask(Members.confirm)
            if self._lease.taken != taking:
                raise LakeUnavailable("The connection that ended the change of the list is gone: it is ended anew.")

        if not self._lease.ask(lambda members: members.try_lock(_CHANGE)):
            return
        try:
            standing = self._lease.ask(Members.standing)
            following = standing.next
            if following is None or standing.missing:
                return
            both = sorted({member.worker for member in (*standing.active.members, *following.members)})
            self._number_on(both, still_alone)
            self._crash.passing("change.after_number_on")
            if self._lease.ask(lambda members: members.activate(following.version)):
                self._log.info("workers_changed", version=following.version, workers=len(following.members))
            self._crash.passing("change.after_activate")
        finally:
            self._lease.ask(lambda members: members.unlock(_CHANGE))

    def _say(self, reason: str) -> None:
        """Say once that the list cannot be asked for, and once that it can again."""
        if reason and not self._reason:
            self._log.warning("workers_not_followed", reason=reason)
        elif self._reason and not reason:
            self._log.info("workers_followed_again")
        self._reason = reason
