"""The end of a change of the list: once, whatever becomes of the connections of those who could end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from runlake.errors import LakeUnavailable
from runlake.lake.backends import end_backends
from runlake.lake.members import Members, lease_name
from runlake.logs import Log
from runlake.wire import Member
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.lakewriter import LakeWriter
from runlake_ingest.lease import Lease
from runlake_ingest.leasetoken import LeaseToken
from runlake_ingest.membership import Membership
from support.waiting import eventually
from support.workers import Workers

LOG = Log("test", "error")


class Node:
    """A worker's membership, without its thread; `meanwhile` happens while it opens the lake to end a change."""

    def __init__(self, workers: Workers, folder: Path, meanwhile: Callable[[], None] = lambda: None) -> None:
        folder.mkdir()
        self.member = Member(worker=uuid4(), endpoint=f"ipc://{folder}")
        self.lease = Lease(workers.place, self.member, LeaseToken(folder), LOG)
        self.meanwhile = meanwhile
        self.membership = Membership(
            self.lease, self.member, self._number_on, lambda: None, lambda error: None, CrashPoints(), LOG
        )

    def _number_on(self, workers: Sequence[UUID], still_alone: Callable[[], None]) -> None:
        lake = LakeWriter(self.lease.lake, CrashPoints(), LOG, before_commit=still_alone, role="n")
        with closing(lake):
            lake.open()
            self.meanwhile()
            lake.number_on(workers)

    def reports(self, version: int) -> bool:
        """One turn of its thread, in which it reports; False when the catalog was out of its reach."""
        self.membership.report(version)
        try:
            self.membership._look()
        except LakeUnavailable:
            return False
        return True


@pytest.fixture
def nodes(workers: Workers, tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """The first is the list; the lake is there."""
    with ExitStack() as ends:
        first, second = Node(workers, tmp_path / "a"), Node(workers, tmp_path / "b")
        for node in (first, second):
            ends.enter_context(closing(node.lease))
            node.lease.confirm()
        with closing(LakeWriter(first.lease.lake, CrashPoints(), LOG)) as lake:
            lake.open()
        first.membership.begin()
        yield first, second


def test_p5_who_lost_its_connection_ends_no_change_that_another_has_ended_meanwhile(
    workers: Workers, nodes: tuple[Node, Node]
) -> None:
    """The right to end it goes with the connection; the lease is taken again by another thread."""
    first, second = nodes
    with closing(Members(workers.place)) as catalog:
        version = catalog.announce([first.member, second.member], "add", 1)
        catalog.report(version, second.member.worker)

        def the_other_ends_it() -> None:
            assert end_backends(workers.place, lease_name(first.member.worker)) == 1

            def taken_again() -> bool:
                try:
                    first.lease.confirm()
                except LakeUnavailable:
                    return False
                return True

            eventually(taken_again)
            assert second.reports(version)
            assert catalog.standing().active.version == version

        first.meanwhile = the_other_ends_it
        assert not first.reports(version)
        first.meanwhile = lambda: None
        assert first.reports(version)
        assert first.membership.standing.active.version == version
    jumps = workers.rows("SELECT worker, first_seq, last_seq FROM {lake}.flushes")
    assert sorted(jumps) == sorted((node.member.worker, 2, 1) for node in nodes)
