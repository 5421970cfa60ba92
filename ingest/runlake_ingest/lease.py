"""The lease of a worker in a cluster: one process at a time is this worker, on whatever machine.

A lock in the catalog's PostgreSQL, on a connection of its own: while the connection is there, nobody else has the lock.
It is seen to be there right before each COMMIT of a flush, and every second. That is for who must find out; what keeps
a process that was stopped after its look from committing is the fence (`Members.fence`): who takes the lease, or
retires the worker, gives it another token, and the server refuses each COMMIT by a connection that is named after an
old one. Connections of a process before are ended besides, so that none of them stands in the way.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID, uuid4

from runlake.errors import AlreadyRunning, LakeError, LakeUnavailable
from runlake.lake.leaselock import SILENT_S, LeaseLock
from runlake.lake.members import Known, Members, lease_name, writer_name
from runlake.lake.place import LakePlace
from runlake.logs import Log
from runlake.wire import Member
from runlake_ingest.leasetoken import LeaseToken

T = TypeVar("T")


def seconds() -> float:
    """A clock for spans, which goes on while the machine sleeps (where there is one)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease:
    """For any thread; one at a time uses the connection.

    Methods raise LakeUnavailable when the catalog cannot be reached, or when a process that is silent has the lease,
    which can be had soon; AlreadyRunning when a process has it that runs, LakeError when this worker's folder may not
    have it any more, OSError when its token cannot be written.
    """

    def __init__(self, place: LakePlace, member: Member, token: LeaseToken, log: Log) -> None:
        self._place = place
        self._member = member
        self._token = token
        self._log = log
        self._mine = uuid4()
        self._leaselock = LeaseLock(member.worker)
        self._lock = threading.RLock()
        self._members: Members | None = None
        self.taken = 0
        """How often it was taken. Locks that `ask` took are let go between two takings."""
        self._waiting = False
        self.seen_at = float("-inf")
        """When a look began that found it held, by `seconds()`. For any thread to read."""

    @property
    def lake(self) -> LakePlace:
        """The lake, by connections that the fence and the next holder of the lease know."""
        return self._place.named(writer_name(self._member.worker, self._mine))

    @property
    def held(self) -> bool:
        """Whether it was held when it was last looked at."""
        return self._members is not None

    def confirm(self) -> None:
        """Return when this process holds the lease, which it takes where it can."""
        with self._lock:
            began = seconds()
            if self._members is not None:
                try:
                    self._members.confirm()
                    self.seen_at = began
                    return
                except LakeUnavailable as error:
                    self._let_go(error)
                    began = seconds()
            self._members = self._take()
            self.seen_at = began

    def ask(self, question: Callable[[Members], T]) -> T:
        """Ask the catalog's database for something, while the lease is held."""
        with self._lock:
            if self._members is None:
                self.confirm()
            assert self._members is not None
            try:
                return question(self._members)
            except LakeUnavailable as error:
                self._let_go(error)
                raise

    def close(self) -> None:
        """Let another process have it. Idempotent."""
        with self._lock:
            if self._members is not None:
                self._members.close()
                self._members = None

    def _let_go(self, error: LakeUnavailable) -> None:
        self.close()
        self._log.warning("lease_lost", reason=str(error))

    def _take(self) -> Members:
        members = Members(self._place, lease_name(self._member.worker))
        try:
            self._lock_it(members)
            found = members.find(self._member.worker)
            if found is None or found[0] != self._mine:
                self._be_the_one(members, found)
        except BaseException:
            members.close()
            raise
        self.taken += 1
        if self.taken > 1:
            self._log.info("lease_held_again")
        return members

    def _lock_it(self, members: Members) -> None:
        known = members.find(self._member.worker)
        if known is not None and known[0] != self._mine:
            self._refuse(*known)  # before it ends who has the lease: that may be a command that retires this worker
        held = self._leaselock.take(members)
        if held == "mine":
            self._waiting = False
            return
        if held == "by one that runs":
            raise AlreadyRunning(_held_by(self._member.worker, known[1] if known else None))
        where = "" if known is None else f" by process {known[1].process} on {known[1].host}"
        if not self._waiting:
            self._waiting = True
            self._log.warning("lease_held_elsewhere", reason=f"held{where}, which is silent", waits_up_to_s=SILENT_S)
        raise LakeUnavailable(
            f"The lease of worker {self._member.worker} is held{where}, from which nothing is heard: waiting up to"
            f" {SILENT_S:.0f} s for its end."
        )

    def _be_the_one(self, members: Members, found: tuple[UUID, Known] | None) -> None:
        """Put this process in the place of the one before, and keep that from writing."""
        worker = self._member.worker
        if found is not None:
            self._refuse(*found)
        members.end_writers(worker)  # one may be stopped in the midst of a COMMIT, and hold its row of the fence
        self._token.prepare(self._mine, None if found is None else found[0])
        members.take_place(self._member, self._mine, socket.gethostname(), os.getpid())
        members.end_writers(worker)
        self._token.took(self._mine)

    def _refuse(self, token: UUID, known: Known) -> None:
        if known.retired_at is not None:
            raise LakeError(
                f"Worker {known.worker} was retired {known.retired_at:%Y-%m-%d %H:%M} UTC; what its journal held is in"
                " the lake, or was given up. Start with an empty data folder: its worker takes an id of its own."
            )
        if not self._token.holds(token):
            raise LakeError(
                f"Another copy of this data folder has run as worker {known.worker} (process {known.process} on"
                f" {known.host}, since {known.since:%Y-%m-%d %H:%M} UTC). Start that one; or, when it is gone for good,"
                f" `runlake workers retire {known.worker}`, and start with an empty data folder."
            )


def _held_by(worker: UUID, known: Known | None) -> str:
    where = f" (process {known.process} on {known.host})" if known is not None else ""
    return (
        f"Another process{where} runs as worker {worker}, with a copy of this data folder. One worker runs once: stop"
        " that one, or start this one with an empty data folder (RUNLAKE_DATA): then it takes an id of its own."
    )
