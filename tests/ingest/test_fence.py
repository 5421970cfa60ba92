"""Who is not a worker any more commits nothing for it: the lake's server refuses that in the COMMIT itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import pytest

from runlake.errors import LakeError, LakeUnavailable
from runlake.lake.members import Members, writer_name
from runlake.lake.place import CatalogAddress, LakePlace
from runlake.wire import Member
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.lakewriter import LakeWriter
from support.journals import Logged, write_segment
from support.workers import Workers

MEMBER = Member(worker=uuid4(), endpoint="ipc:///x")
MINE, OTHER = uuid4(), uuid4()


@pytest.fixture
def members(workers: Workers) -> Iterator[Members]:
    made = Members(workers.place)
    made.take_place(MEMBER, MINE, "host", 1)
    yield made
    made.close()


def nothing() -> None:
    """Happens between the last look and the COMMIT."""


@contextmanager
def writing(
    workers: Workers, members: Members, happens: Callable[[], object] = nothing
) -> Iterator[tuple[LakeWriter, UUID]]:
    """The lake by a process that has the token `MINE`; something happens after its last look."""
    place = workers.place.named(writer_name(MEMBER.worker, MINE))
    lake = LakeWriter(place, CrashPoints({}), Logged().log, before_commit=happens)
    try:
        lake_id = lake.open()
        members.fence()
        yield lake, lake_id
    finally:
        lake.close()


def stored(workers: Workers) -> int:
    return sum(count for (count,) in workers.rows("SELECT count(*) FROM {lake}.events"))


def test_who_has_the_token_of_the_worker_commits(workers: Workers, members: Members, tmp_path: Path) -> None:
    members.fence()  # where there is no lake yet there is nothing to fence
    with writing(workers, members) as (lake, lake_id):
        members.fence()
        lake.flush(write_segment(tmp_path / "journal", worker=MEMBER.worker, lake=lake_id))
        assert stored(workers) == 3


@pytest.mark.parametrize("ends", ["retired", "replaced"])
def test_a_commit_after_the_token_has_changed_is_refused_though_its_connection_lives(
    workers: Workers, members: Members, tmp_path: Path, ends: str
) -> None:
    """As of a process that was stopped right after its last look at the lease."""
    happened: list[int] = []

    def happens() -> None:
        happened.append(1)
        if ends == "retired":
            assert members.retire(MEMBER.worker, OTHER)
        else:
            members.take_place(MEMBER, OTHER, "host", 2)

    with writing(workers, members, happens) as (lake, lake_id):
        segment = write_segment(tmp_path / "journal", worker=MEMBER.worker, lake=lake_id)
        for tries in range(1, 3):
            with pytest.raises(LakeUnavailable, match="no longer worker"):
                lake.flush(segment)
            assert len(happened) == tries
    assert stored(workers) == 0


def test_others_commit_as_before(workers: Workers, members: Members, tmp_path: Path) -> None:
    """A command, somebody's own DuckDB; a worker of an older version, whose token is not in its connections' name."""
    for number, name in enumerate(("", f"runlake lake {MEMBER.worker.hex} 01234567"), 1):
        lake = LakeWriter(workers.place.named(name) if name else workers.place, CrashPoints({}), Logged().log)
        lake_id = lake.open()
        members.fence()
        first = number * 3 - 2
        lake.flush(write_segment(tmp_path / "journal", number, first_seq=first, worker=MEMBER.worker, lake=lake_id))
        lake.close()
    assert stored(workers) == 6


def test_ending_a_workers_connections_leaves_none_and_another_s_alone(workers: Workers, members: Members) -> None:
    other = Member(worker=uuid4(), endpoint="ipc:///y")
    with writing(workers, members):
        beside = Members(workers.place, writer_name(other.worker, OTHER))
        assert members.end_writers(MEMBER.worker) >= 1 and members.end_writers(MEMBER.worker) == 0
        beside.confirm()
        beside.close()


def test_a_role_that_may_not_put_the_fence_up_is_told_what_it_lacks(
    workers: Workers, members: Members, database: str
) -> None:
    """A catalog of an earlier version, whose tables another role owns."""
    with writing(workers, members):
        pass
    address = urlsplit(database)
    with psycopg.connect(database, autocommit=True) as server:
        server.execute("DROP TRIGGER runlake_fence ON ducklake_snapshot")
        server.execute("DROP FUNCTION runlake.fence")
        server.execute("CREATE ROLE writer LOGIN PASSWORD 'x'")
        server.execute("GRANT USAGE ON SCHEMA public, runlake TO writer")
        server.execute("GRANT ALL ON ALL TABLES IN SCHEMA runlake TO writer")
        try:
            url = f"postgresql://writer:x@{address.hostname}:{address.port}{address.path}"
            with closing(Members(LakePlace(CatalogAddress(url), workers.place.storage))) as other:
                with pytest.raises(LakeError, match="GRANT CREATE, USAGE ON SCHEMA runlake and TRIGGER"):
                    other.fence()
                server.execute("GRANT CREATE ON SCHEMA runlake TO writer")
                server.execute("GRANT TRIGGER ON ducklake_snapshot TO writer")
                other.fence()
        finally:
            server.execute("DROP OWNED BY writer CASCADE")
            server.execute("DROP ROLE writer")
