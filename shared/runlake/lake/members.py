"""The workers of a cluster: the list that is in force, how it changes, and the locks by which each is there once.

Kept in the schema `runlake` of the catalog's PostgreSQL database, beside the lake. A catalog in SQLite has one worker,
and none of this.

A change. A new list is announced (`changing`, its version one more). Every worker of the old and of the new list stops
taking, brings all that it has to the lake, and reports; from its report on it takes nothing until the change has ended.
When all have reported, one of them writes to the lake from where all number on, and puts the new list in force
(`active`). Until then the change can be taken back (`withdrawn`). So a message of a run that has moved comes, by its
position, behind all that its former home took; and no two workers ever take messages of one run by different lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

import psycopg
from msgspec import Struct

from runlake.errors import LakeError
from runlake.lake.backends import end_backends_by
from runlake.lake.place import LakePlace
from runlake.lake.postgres import connect, unavailable
from runlake.sqlfile import load_queries
from runlake.wire import Member, Workers

_SQL = load_queries("runlake.lake", "members.sql")
_TABLES = ("make_schema", "make_lists", "make_one_of_a_state", "make_members", "make_workers", "make_reports")


class Standing(Struct, frozen=True):
    """The list in force (version 0 while there is none), the one to follow it, and who has reported for that."""

    active: Workers
    next: Workers | None = None
    reported: frozenset[UUID] = frozenset()

    @property
    def missing(self) -> list[UUID]:
        """Those of the old and the new list who have yet to report."""
        if self.next is None:
            return []
        both = {member.worker for member in (*self.active.members, *self.next.members)}
        return sorted(both - self.reported)


class Known(Struct, frozen=True):
    """A worker that has run on this catalog: where it is reached, and since when its latest process runs, or ran."""

    worker: UUID
    endpoint: str
    host: str
    process: int
    since: datetime
    retired_at: datetime | None = None


def lock_key(what: str, worker: UUID | None = None) -> int:
    """The key of an advisory lock (64 bits, signed): "lease" of a worker, "maintenance" or "change" of the lake."""
    text = f"runlake {what}".encode() + (worker.bytes if worker is not None else b"")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)


def lease_name(worker: UUID) -> str:
    """The application's name of connections that hold a worker's lease, or wait for it."""
    return f"runlake lease {worker}"


def writer_name(worker: UUID, token: UUID) -> str:
    """The application's name of connections by which a worker's process, which has this token, writes the lake; it may
    be followed by up to 8 bytes more."""
    return f"runlake lake {worker.hex} t{token.hex[:8]}"


class ListChanged(LakeError):  # noqa: N818 (named by what it says)
    """A change was made from a list that is not in force any more, or is about to be changed: make it anew."""


class Members:
    """One connection to the catalog's database, and the locks that it holds until it ends. Not thread-safe.

    Every method raises LakeUnavailable when the server cannot be reached; then the connection and its locks are gone.
    """

    def __init__(self, place: LakePlace, application: str = "runlake workers") -> None:
        """Connect, and make the tables where they are missing. Raises LakeUnavailable, LakeError."""
        self._place = place
        self._connection = connect(place, application)
        try:
            with self._told():
                self._connection.execute(_SQL["server_keepalive"])
                self._backend = self._value("backend")
                self._make_tables()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection, and with it the locks. Idempotent."""
        self._connection.close()

    def confirm(self) -> None:
        """Return when the connection, and so each lock that it took, is still there."""
        with self._told():
            if self._value("backend") != self._backend:
                raise LakeError(
                    "The locks of a worker need a connection of their own: give RUNLAKE_CATALOG the PostgreSQL server"
                    " itself, not a pooler."
                )

    # The list

    def standing(self) -> Standing:
        """The list in force, and the change that is under way."""
        with self._told():
            rows = self._connection.execute(_SQL["standing"]).fetchall()
        lists: dict[str, Workers] = {}
        for version, state, worker, endpoint in rows:
            found = lists.setdefault(state, Workers(version=version, members=[]))
            found.members.append(Member(worker=worker, endpoint=endpoint))
        changing = lists.get("changing")
        reported = self._reports(changing.version) if changing is not None else frozenset()
        return Standing(lists.get("active", Workers(version=0, members=[])), changing, reported)

    def begin_with(self, member: Member) -> bool:
        """Make the first list, of this worker alone; False when there is one already."""
        with self._changing_list():
            if self._value("last_version"):
                return False
            self._add_list(1, "active", "the first worker", [member])
            return True

    def moved(self, member: Member) -> bool:
        """Note where a member is reached from now on; False when that is what the list says, or it is not on it."""
        with self._changing_list():
            standing = self.standing()
            if standing.next is not None:  # tried again when that has ended
                return False
            members = {found.worker: found for found in standing.active.members}
            if member.worker not in members or members[member.worker] == member:
                return False
            members[member.worker] = member
            self._settle(standing.active.version, "active", "past")
            version = int(self._value("last_version")) + 1
            self._add_list(version, "active", f"{member.worker} moved", members.values())
            return True

    def announce(self, members: Sequence[Member], why: str, based_on: int, reported: Iterable[UUID] = ()) -> int:
        """Begin a change to these members; `reported` are gone, and all they had is in the lake or given up. Returns
        the version. Raises ListChanged when the list in force is not the one it is `based_on`, or another change is
        under way; LakeError when nobody would be left."""
        with self._changing_list():
            standing = self.standing()
            if standing.next is not None:
                raise ListChanged(f"A change of the list of workers is under way: {self.why(standing.next.version)}.")
            if standing.active.version != based_on:
                raise ListChanged(f"The list of workers is by now that of version {standing.active.version}.")
            if not members:
                raise LakeError("A list of workers has at least one.")
            version = int(self._value("last_version")) + 1
            self._add_list(version, "changing", why, members)
            for worker in reported:
                self._connection.execute(_SQL["report"], {"version": version, "worker": worker})
            return version

    def why(self, version: int) -> str:
        """What a list was made for."""
        with self._told():
            row = self._connection.execute(_SQL["why"], {"version": version}).fetchone()
        return str(row[0]) if row else ""

    def report(self, version: int, worker: UUID) -> None:
        """A worker takes nothing, and has brought all to the lake. Nothing happens when the change has ended."""
        with self._told():
            self._connection.execute(_SQL["report"], {"version": version, "worker": worker})

    def activate(self, version: int) -> bool:
        """Put an announced list in force, when all have reported and it was not taken back; returns whether it is."""
        with self._changing_list():
            standing = self.standing()
            if standing.next is None or standing.next.version != version or standing.missing:
                return standing.active.version == version
            self._settle(standing.active.version, "active", "past")
            return self._settle(version, "changing", "active")

    def withdraw(self, version: int) -> bool:
        """Take a change back; False when it has ended."""
        with self._changing_list():
            return self._settle(version, "changing", "withdrawn")

    # Workers

    def known(self) -> list[Known]:
        """Every worker that ever ran on this catalog."""
        with self._told():
            return [Known(*row) for row in self._connection.execute(_SQL["workers"]).fetchall()]

    def find(self, worker: UUID) -> tuple[UUID, Known] | None:
        """A worker that has run on this catalog, and the token of who took its lease last."""
        with self._told():
            row = self._connection.execute(_SQL["worker"], {"worker": worker}).fetchone()
        return (row[0], Known(worker, *row[1:])) if row else None

    def take_place(self, member: Member, token: UUID, host: str, process: int) -> None:
        """Note who holds a worker's lease."""
        with self._told():
            values = {"worker": member.worker, "endpoint": member.endpoint}
            self._connection.execute(_SQL["take_place"], values | {"token": token, "host": host, "process": process})

    def retire(self, worker: UUID, token: UUID) -> bool:
        """Never let this worker start again, nor write what it has open; who writes for it from now on has this token.
        False when it is not known."""
        with self._told():
            values = {"worker": worker, "token": token}
            return self._connection.execute(_SQL["retire"], values).fetchone() is not None

    def fence(self) -> None:
        """Have the lake, where there is one, refuse each COMMIT by a connection of `writer_name` whose token is not
        the worker's any more: the server looks at that within the COMMIT's own transaction. Raises LakeError when the
        catalog's role has no right to."""
        with self._told():
            if self._is_fenced():
                return
            try:
                with self._connection.transaction():
                    self._connection.execute(_SQL["one_at_a_time"])
                    if not self._is_fenced():
                        self._connection.execute(_SQL["make_fence"])
                        self._connection.execute(_SQL["put_fence_up"])
            except psycopg.errors.InsufficientPrivilege as error:
                raise LakeError(
                    f"What keeps replaced workers from writing cannot be put into the catalog {self._place.told}:"
                    f" {str(error).splitlines()[0]}. Once, start a worker as the role that owns its tables; or GRANT"
                    " CREATE, USAGE ON SCHEMA runlake and TRIGGER ON ducklake_snapshot to this one."
                ) from None

    def end_writers(self, worker: UUID) -> int:
        """End all connections by which processes of a worker write the lake, and see them gone; returns how many."""
        return self._end(f"runlake lake {worker.hex} ")

    def end_holders(self, worker: UUID) -> int:
        """End all others' connections that hold a worker's lease, or wait for it, and see them gone."""
        return self._end(lease_name(worker))

    def silence_s(self, worker: UUID) -> float | None:
        """For how long nothing has come from who holds a worker's lease, by the server's clock; None when nobody does.
        A process that lives says something every second."""
        with self._told():
            row = self._connection.execute(_SQL["silence"], {"key": lock_key("lease", worker)}).fetchone()
        return None if row is None else float(row[0])

    def running(self, workers: Iterable[UUID]) -> set[UUID]:
        """Those of the workers whose lease somebody holds."""
        with self._told():
            held = {int(row[0]) for row in self._connection.execute(_SQL["held_locks"]).fetchall()}
        return {worker for worker in workers if lock_key("lease", worker) in held}

    # Locks

    def try_lock(self, key: int) -> bool:
        """Take a lock until `unlock` or the connection's end; False when another connection has it."""
        with self._told():
            return bool(self._value("try_lock", key=key))

    def unlock(self, key: int) -> None:
        with self._told():
            self._value("unlock", key=key)

    def _end(self, names: str) -> int:
        with self._told():
            return end_backends_by(self._connection, self._place, names)

    def _is_fenced(self) -> bool:
        """True too where there is nothing to fence."""
        row = self._connection.execute(_SQL["is_fenced"]).fetchone()
        return row is None or bool(row[0])

    def _make_tables(self) -> None:
        if self._value("are_there"):
            return
        with self._connection.transaction():
            self._connection.execute(_SQL["one_at_a_time"])
            for name in _TABLES:
                self._connection.execute(_SQL[name])

    def _reports(self, version: int) -> frozenset[UUID]:
        with self._told():
            rows = self._connection.execute(_SQL["reports"], {"version": version}).fetchall()
        return frozenset(row[0] for row in rows)

    def _add_list(self, version: int, state: str, why: str, members: Iterable[Member]) -> None:
        self._connection.execute(_SQL["add_list"], {"version": version, "state": state, "why": why})
        for member in members:
            values = {"version": version, "worker": member.worker, "endpoint": member.endpoint}
            self._connection.execute(_SQL["add_member"], values)

    def _settle(self, version: int, was: str, to: str) -> bool:
        values = {"version": version, "was": was, "to": to}
        return self._connection.execute(_SQL["settle"], values).fetchone() is not None

    def _value(self, query: str, **values: object) -> Any:
        row = self._connection.execute(_SQL[query], values).fetchone()
        assert row is not None
        return row[0]

    @contextmanager
    def _changing_list(self) -> Iterator[None]:
        """A transaction that nobody else's change of the list comes between."""
        with self._told(), self._connection.transaction():
            self._connection.execute(_SQL["one_at_a_time"])
            yield

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            self._connection.close()
            raise unavailable(self._place, error) from None
