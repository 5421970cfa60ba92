"""The lease of a worker in a cluster: one process at a time is this worker, on whatever machine.

A lock in the catalog's PostgreSQL, on a connection of its own: while the connection is there, nobody else has the lock.
It is seen to be there right before each COMMIT of a flush. Who takes the lock cuts off what a process before it still
has open on the catalog; so a process that was stopped between that look and its COMMIT commits nothing any more.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID, uuid4

from msgspec.structs import replace

from runlake.errors import AlreadyRunning, LakeError, LakeUnavailable
from runlake.lake.members import Known, Members, lock_key
from runlake.lake.place import CatalogAddress, LakePlace
from runlake.logs import Log
from runlake.wire import Member
from runlake_ingest.leasetoken import LeaseToken

T = TypeVar("T")
_PATIENCE_S = 2.0
_TRY_EVERY_S = 0.1


class Lease:
    """For any thread; one at a time uses the connection.

    Methods raise LakeUnavailable when the catalog cannot be reached, AlreadyRunning when another process has the lease,
    LakeError when this worker's folder may not have it any more, OSError when its token cannot be written.
    """

    def __init__(self, place: LakePlace, member: Member, token: LeaseToken, log: Log) -> None:
        self._place = place
        self._member = member
        self._token = token
        self._log = log
        self._key = lock_key("lease", member.worker)
        self._names = f"runlake lake {member.worker.hex} "
        self._name = f"{self._names}{os.urandom(4).hex()}"
        self._lock = threading.RLock()
        self._members: Members | None = None
        self._taken = 0

    @property
    def lake(self) -> LakePlace:
        """The lake, by connections that the next holder of the lease knows and can cut off."""
        mark = "&" if "?" in self._place.catalog else "?"
        name = self._name.replace(" ", "%20")
        return replace(self._place, catalog=CatalogAddress(f"{self._place.catalog}{mark}application_name={name}"))

    @property
    def held(self) -> bool:
        """Whether it was held when it was last looked at."""
        return self._members is not None

    def confirm(self) -> None:
        """Return when this process holds the lease, which it takes where it can."""
        with self._lock:
            if self._members is not None:
                try:
                    self._members.confirm()
                    return
                except LakeUnavailable as error:
                    self._let_go(error)
            self._members = self._take()

    def ask(self, question: Callable[[Members], T]) -> T:
        """Ask the catalog's database for something, while the lease is held."""
        with self._lock:
            if self._members is None:
                self._members = self._take()
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
        members = Members(self._place, f"runlake lease {self._member.worker}")
        try:
            worker = self._member.worker
            found = members.find(worker)
            if not self._locked(members):
                raise AlreadyRunning(_held_by(worker, found[1] if found else None))
            found = members.find(worker)
            if found is not None:
                self._refuse(*found)
            members.cut_off(self._names, self._name)
            token = uuid4()
            self._token.prepare(token)
            members.take_place(self._member, token, socket.gethostname(), os.getpid())
            self._token.took(token)
        except BaseException:
            members.close()
            raise
        self._taken += 1
        if self._taken > 1:
            self._log.info("lease_held_again")
        return members

    def _locked(self, members: Members) -> bool:
        """The server may need a moment to see that a process of this worker has ended."""
        end = time.monotonic() + _PATIENCE_S
        while not members.try_lock(self._key):
            if time.monotonic() >= end:
                return False
            time.sleep(_TRY_EVERY_S)
        return True

    def _refuse(self, token: UUID, known: Known) -> None:
        if known.retired_at is not None:
            raise LakeError(
                f"Worker {known.worker} was retired {known.retired_at:%Y-%m-%d %H:%M} UTC; what its journal held is in"
                " the lake, or was given up. Start with an empty data folder: its worker takes an id of its own."
            )
        if not self._token.holds(token):
            raise LakeError(
                f"Another copy of this data folder has run as worker {known.worker} (on {known.host}, since"
                f" {known.since:%Y-%m-%d %H:%M} UTC). Start that one; or, when it is gone for good, `runlake workers"
                f" retire {known.worker}`, and start with an empty data folder."
            )


def _held_by(worker: UUID, known: Known | None) -> str:
    where = f" (process {known.process} on {known.host})" if known is not None else ""
    return (
        f"Another process{where} runs as worker {worker}, with a copy of this data folder. One worker runs once: stop"
        " that one, or start this one with an empty data folder (RUNLAKE_DATA): then it takes an id of its own."
    )
