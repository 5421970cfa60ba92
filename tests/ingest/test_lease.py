"""One process at a time is a worker: copies of its folder on one catalog, stopped, cut off and left behind."""

from __future__ import annotations

import shutil
import signal
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest

from runlake.errors import LakeError, LakeUnavailable
from runlake.lake.leaselock import SILENT_S, LeaseLock
from runlake.lake.members import Members, lease_name
from runlake.logs import Log
from runlake.wire import Member
from runlake_ingest.lease import Lease
from runlake_ingest.leasetoken import LeaseToken
from support.postgres import Postgres
from support.processes import Process, Site
from support.producer import Producer
from support.samples import events
from support.waiting import eventually
from support.workers import Workers

ALWAYS = ("--flush-interval-ms", "50")
ON_DEMAND = ("--flush-interval-ms", "600000")


def copy_of(site: Site, workers: Workers, name: str) -> Site:
    """A copy of a data folder that keeps its identity, as a clone of the whole machine does."""
    copy = workers.site(name)
    shutil.copytree(site.data, copy.data)
    identity = copy.data / "ingest" / "worker.json"
    said = msgspec.json.decode(identity.read_bytes(), type=dict[str, Any])
    identity.write_bytes(msgspec.json.encode(said | {"inode": identity.stat().st_ino}))
    return copy


def cut_off(postgres: Postgres, database: str, names: str) -> int:
    """End the connections to a database whose application's name begins like this; returns how many."""
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = %s AND starts_with(application_name, %s)"
    )
    return len(postgres.rows(query, database.rpartition("/")[2], names))


def refusal(process: Process) -> str:
    """Why a worker did not run."""
    reason = str(process.wait_for("cannot_run")["reason"])
    assert process.wait() == 1
    return reason


def accepted(workers: Workers) -> list[tuple[Any, ...]]:
    return workers.rows("SELECT count(*), count(DISTINCT event_id) FROM {lake}.events")


def test_a_copy_of_a_folder_does_not_start_while_the_worker_runs(workers: Workers) -> None:
    site = workers.site("a")
    with site.ingest() as worker:
        with copy_of(site, workers, "b").ingest(ready=False) as copy:
            reason = refusal(copy)
        assert f"process {worker.pid}" in reason and "copy of this data folder" in reason
        assert worker.terminate() == 0


def test_a_worker_whose_lease_was_cut_off_takes_it_again_and_loses_nothing(
    workers: Workers, postgres: Postgres, database: str
) -> None:
    site = workers.site("a")
    with site.ingest(*ON_DEMAND) as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver(events(100))
        assert cut_off(postgres, database, "runlake l") >= 2  # the lease, and what writes the lake
        producer.deliver(events(100))
        assert producer.flush().flushed == 200
        assert worker.wait_for("lease_lost") and worker.wait_for("lease_held_again")
        assert accepted(workers) == [(200, 200)]
        assert worker.terminate() == 0


def test_a_holder_that_was_stopped_and_replaced_flushes_nothing_more_and_ends(
    workers: Workers, postgres: Postgres, database: str
) -> None:
    site = workers.site("a")
    with site.ingest(*ON_DEMAND) as first, Producer(site.ingest_endpoint) as producer:
        producer.deliver(events(10))
        producer.flush()
        copy = copy_of(site, workers, "b")
        producer.deliver(events(10))
        first.send(signal.SIGSTOP)
        cut_off(postgres, database, "runlake lease ")
        with copy.ingest(*ALWAYS) as second, Producer(copy.ingest_endpoint) as other:
            other.deliver(events(5))
            assert other.flush().flushed == 15
            first.send(signal.SIGCONT)
            assert f"process {second.pid}" in refusal(first)
            assert accepted(workers) == [(15, 15)]
            assert second.terminate() == 0


def test_who_takes_a_lease_cuts_off_the_catalog_of_who_had_it(
    workers: Workers, postgres: Postgres, database: str
) -> None:
    """So a COMMIT that was on its way when its process was stopped does not come through."""
    site = workers.site("a")
    with site.ingest(*ON_DEMAND) as first, Producer(site.ingest_endpoint) as producer:
        producer.deliver(events(10))
        producer.flush()
        copy = copy_of(site, workers, "b")
        first.send(signal.SIGSTOP)
        cut_off(postgres, database, "runlake lease ")
        before = connections_to_the_lake(postgres, database)
        assert before
        with copy.ingest(*ON_DEMAND) as second:
            assert not before & connections_to_the_lake(postgres, database)
            assert second.terminate() == 0
        first.send(signal.SIGCONT)


def connections_to_the_lake(postgres: Postgres, database: str) -> set[int]:
    query = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND starts_with(application_name, 'runlake lake ')"
    return {pid for (pid,) in postgres.rows(query, database.rpartition("/")[2])}


def test_a_folder_that_was_left_behind_by_its_copy_does_not_start_again(workers: Workers) -> None:
    site = workers.site("a")
    with site.ingest() as first:
        assert first.terminate() == 0
    copy = copy_of(site, workers, "b")
    with copy.ingest() as second:
        assert second.terminate() == 0
    with site.ingest(ready=False) as late:
        assert "Another copy of this data folder has run as worker" in refusal(late)
    with copy.ingest() as third:
        assert third.terminate() == 0


def test_the_lease_of_a_process_that_is_silent_is_taken_from_it_after_a_while(workers: Workers) -> None:
    """It may be dead, and the server has not noticed; if it is not, it learns that it has been replaced."""
    site = workers.site("a")
    with site.ingest(*ON_DEMAND) as first, Producer(site.ingest_endpoint) as producer:
        producer.deliver(events(10))
        copy = copy_of(site, workers, "b")
        first.send(signal.SIGSTOP)
        with copy.ingest(*ON_DEMAND) as second, Producer(copy.ingest_endpoint) as other:
            said = second.wait_for("lease_held_elsewhere")
            assert f"process {first.pid}" in said["reason"] and said["waits_up_to_s"] == SILENT_S
            first.send(signal.SIGCONT)
            assert f"process {second.pid}" in refusal(first)
            other.deliver(events(5))
            assert other.flush().flushed == 15
            assert accepted(workers) == [(15, 15)]
            assert second.terminate() == 0


def test_a_worker_that_was_retired_ends_nobody_s_lease(workers: Workers, tmp_path: Path) -> None:
    """That of the command that retires it is silent while it brings a journal to the lake."""
    member, log = Member(worker=uuid4(), endpoint="ipc:///x"), Log("test", "error")
    with closing(Lease(workers.place, member, LeaseToken(tmp_path), log)) as lease:
        lease.confirm()
    with closing(Members(workers.place, lease_name(member.worker))) as command:
        lock = LeaseLock(member.worker)
        eventually(lambda: lock.take(command) == "mine")  # the server lets go a moment after the other has closed
        command.retire(member.worker, uuid4())
        restarted = Lease(workers.place, member, LeaseToken(tmp_path), log)
        with pytest.raises(LakeError, match="was retired"):
            restarted.confirm()
        command.confirm()


def test_a_folder_is_its_worker_s_after_any_number_of_interrupted_starts(
    workers: Workers, tmp_path: Path, database: str
) -> None:
    """Killed between the catalog's word and its own; then the catalog fails it in the next start."""
    member, log = Member(worker=uuid4(), endpoint="ipc:///x"), Log("test", "error")

    def start() -> None:
        lease = Lease(workers.place, member, LeaseToken(tmp_path), log)
        try:
            lease.confirm()
        finally:
            lease.close()

    start()
    catalog = Members(workers.place)
    found = catalog.find(member.worker)
    assert found is not None
    LeaseToken(tmp_path).prepare(interrupted := uuid4(), found[0])
    catalog.take_place(member, interrupted, "host", 1)
    catalog.close()
    with psycopg.connect(database, autocommit=True) as server:
        server.execute("ALTER TABLE runlake.workers ADD CONSTRAINT broken CHECK (process = 1)")
        with pytest.raises(LakeUnavailable, match="broken"):
            start()
        server.execute("ALTER TABLE runlake.workers DROP CONSTRAINT broken")
    start()


def test_without_its_lease_a_worker_goes_on_taking_and_flushes_when_the_server_is_back(
    workers: Workers, postgres: Postgres
) -> None:
    site = workers.site("a")
    with site.ingest(*ALWAYS) as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver(events(10))
        producer.flush()
        postgres.stop()
        try:
            for _ in range(5):
                producer.deliver(events(10))
            worker.wait_for("lease_lost")
        finally:
            postgres.start()
        eventually(lambda: producer.flush().flushed == 60)
        assert accepted(workers) == [(60, 60)]
        assert worker.terminate() == 0
