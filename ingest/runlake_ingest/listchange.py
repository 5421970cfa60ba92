"""What a worker does when the list of workers changes: stop taking, bring all to the lake, report, and go on by the new
list, with the numbering and the dedupe window that the lake says.

On the receiver's thread, between two of its turns. `membership.py` has the catalog's side.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from uuid import UUID

from runlake.errors import LakeUnavailable
from runlake.lake.members import Standing
from runlake.logs import Log
from runlake_ingest.lakewriter import LakeReader
from runlake_ingest.membership import Membership
from runlake_ingest.receiver import Receiver
from runlake_ingest.windowfill import window_from_lake


class ListChange:
    """`step` after each turn of the receiver, which has begun where the lake was after `membership.begin`. `reader`
    opens the lake; `going_on` is called at each turn of a wait: False when the worker is to stop."""

    def __init__(
        self,
        worker: UUID,
        membership: Membership,
        receiver: Receiver,
        reader: Callable[[], LakeReader],
        window_ids: int,
        going_on: Callable[[], bool],
        log: Log,
    ) -> None:
        self._worker = worker
        self._membership = membership
        self._receiver = receiver
        self._reader = reader
        self._window_ids = window_ids
        self._going_on = going_on
        self._log = log
        self._begun = membership.standing
        self._followed: Standing | None = None

    def step(self) -> None:
        """Go along with the change that is under way, until it has ended; then follow the list in force."""
        standing = self._membership.standing
        if standing is self._followed:
            return
        while standing.next is not None and self._concerns(standing):
            if not self._go_along(standing.next.version):
                return
            standing = self._membership.standing
        if self._came_meanwhile(standing) and not self._number_on():
            return
        self._follow(standing)

    def _came_meanwhile(self, standing: Standing) -> bool:
        """Whether another list came into force while this worker was starting: what it read of the lake then may be
        from before that."""
        return self._followed is None and standing.active.version != self._begun.active.version

    def _concerns(self, standing: Standing) -> bool:
        lists = (standing.active, standing.next)
        return any(member.worker == self._worker for found in lists if found is not None for member in found.members)

    def _go_along(self, version: int) -> bool:
        """Stop taking until the change to this version has ended. False when the worker is to stop.

        What has ended before this worker reported was taken back. But not for one that has just started: its process
        before may have reported. Then, and after a report, all numbers may have been written to the lake.
        """
        receiver, started = self._receiver, self._followed is None
        self._log.info("workers_changing", version=version)
        if not self._turns_until(lambda: receiver.drained() or (self._ended(version) and not started)):
            return False
        if receiver.drained():
            receiver.seal()
        if not self._turns_until(lambda: receiver.flushed() or (self._ended(version) and not started)):
            return False
        if self._ended(version) and not started:
            return True
        self._membership.report(version)
        return self._turns_until(lambda: self._ended(version)) and self._number_on()

    def _number_on(self) -> bool:
        """Go on where the lake says, with what all have brought to it; where it says nothing new, the change was taken
        back. False when the worker is to stop."""
        reason = ""
        while self._turn():
            try:
                with closing(self._reader()) as lake:
                    segment, seq = lake.flushed(self._worker)
                    if seq <= self._receiver.position().accepted:
                        return True
                    window = window_from_lake(lake, self._window_ids, segment, seq, self._turn)
            except LakeUnavailable as error:
                if not reason:
                    reason = str(error)
                    self._log.warning("lake_unavailable", reason=reason)
                continue
            self._receiver.number_on(window, seq)
            return True
        return False

    def _follow(self, standing: Standing) -> None:
        active = standing.active
        if self._followed is None or self._followed.active != active:
            self._receiver.follow(active)
            if any(member.worker == self._worker for member in active.members):
                self._log.info("workers_followed", version=active.version, workers=len(active.members))
            else:
                self._log.warning(
                    "worker_not_listed",
                    version=active.version,
                    reason=f"this worker takes nothing until `runlake workers add {self._worker}`",
                )
        self._followed = standing

    def _ended(self, version: int) -> bool:
        following = self._membership.standing.next
        return following is None or following.version != version

    def _turns_until(self, condition: Callable[[], bool]) -> bool:
        """Let the receiver work without taking; False when the worker is to stop before the condition holds."""
        while not condition():
            if not self._turn():
                return False
        return True

    def _turn(self) -> bool:
        self._receiver.step(taking=False)
        return self._going_on()
