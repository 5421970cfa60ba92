"""A worker that is retired while it is only stopped, or cut off from its catalog: what it does when it is back."""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from runlake.errors import LakeUnavailable
from runlake.homes import home_key, home_of
from runlake.logs import Log
from runlake.messages import Message
from runlake.wire import Member
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.lakewriter import LakeWriter
from runlake_ingest.lease import Lease
from runlake_ingest.leasesight import SURE_FOR_S
from runlake_ingest.leasetoken import LeaseToken
from runlake_ingest.recovery import recover
from support.catalogproxy import CatalogProxy
from support.postgres import Postgres
from support.processes import Process, Site
from support.producer import Producer
from support.samples import event
from support.waiting import eventually
from support.workers import Workers

OFTEN = ("--flush-interval-ms", "100")
ON_DEMAND = ("--flush-interval-ms", "600000")


class Two(NamedTuple):
    """Two workers that are on the list: one that stays, and one that is to be retired."""

    first: Process
    second: Process
    site: Site
    """Of the second."""
    own: list[Message]
    """Whose home is the second."""

    @property
    def gone(self) -> UUID:
        return UUID(self.second.wait_for("ready")["worker"])


def begin(ends: ExitStack, workers: Workers, *flags: str, catalog: str | None = None) -> Two:
    """`catalog`: how the second reaches it."""
    a, b = workers.site("a"), workers.site("b")
    if catalog is not None:
        b.env["RUNLAKE_CATALOG"] = catalog
    first, second = ends.enter_context(a.ingest(*OFTEN)), ends.enter_context(b.ingest(*flags))
    ids = [UUID(process.wait_for("ready")["worker"]) for process in (first, second)]
    assert workers.change("add") == 2
    some = (event(number, f"run-{number}") for number in range(200))
    return Two(first, second, b, [message for message in some if home_of(home_key(message), ids) == ids[1]])


def stored(workers: Workers) -> int:
    """How many messages the lake has; fails when it has one of them twice."""
    rows = workers.rows("SELECT count(*), count(DISTINCT event_id) FROM {lake}.events")
    assert all(count == ids for count, ids in rows)
    return sum(count for count, _ in rows)


def end_connections(postgres: Postgres, database: str, worker: UUID) -> None:
    query = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
        " AND application_name ~ %s"
    )  # fmt: skip
    postgres.rows(query, database.rpartition("/")[2], f"^runlake (lease {worker}|lake {worker.hex})")


def test_a_stopped_worker_that_was_retired_acknowledges_nothing_when_it_goes_on(
    workers: Workers, tmp_path: Path, postgres: Postgres, database: str
) -> None:
    with ExitStack() as ends:
        two = begin(ends, workers, *ON_DEMAND)
        with Producer(two.site.ingest_endpoint) as producer:
            producer.deliver(two.own[:10])
            two.second.send(signal.SIGSTOP)
            refused = workers.run("retire", str(two.gone), "--journal", str(two.site.data))
            assert refused.returncode == 1 and f"Process {two.second.pid} has" in refused.stderr
            shutil.copytree(two.site.data, tmp_path / "copy")
            end_connections(postgres, database, two.gone)
            assert workers.change("retire", str(two.gone), "--journal", str(tmp_path / "copy")) == 3
            assert stored(workers) == 10
            producer.send(two.own[10:60])
            two.second.send(signal.SIGCONT)
            assert "was retired" in two.second.wait_for("cannot_run")["reason"]
            assert two.second.wait() == 1
            assert not producer.answered()
        assert stored(workers) == 10
        assert two.first.terminate() == 0


def test_a_worker_that_was_stopped_asks_the_catalog_before_it_acknowledges_and_does_not_wait_for_ever(
    workers: Workers, database: str
) -> None:
    with CatalogProxy(database) as proxy:
        site = workers.site("a")
        site.env["RUNLAKE_CATALOG"] = proxy.url
        with site.ingest(*ON_DEMAND) as worker, Producer(site.ingest_endpoint) as producer:
            assert producer.deliver([event()]).accepted == 1
            worker.send(signal.SIGSTOP)
            proxy.away = True
            proxy.cut()
            producer.send([event()])
            assert not producer.answered(SURE_FOR_S + 0.5)
            goes_on = time.monotonic()
            worker.send(signal.SIGCONT)
            assert producer.ack().accepted == 1
            assert time.monotonic() - goes_on > 1.5
            assert producer.deliver([event()]).accepted == 1
            proxy.away = False
            worker.wait_for("lease_held_again")
            assert worker.terminate() == 0
    assert stored(workers) == 3


def test_a_stopped_worker_is_retired_when_it_has_been_silent_for_a_while(workers: Workers) -> None:
    with ExitStack() as ends:
        two = begin(ends, workers, *ON_DEMAND)
        runs = workers.run("retire", str(two.gone), "--journal-lost")
        assert runs.returncode == 1 and "runs" in runs.stderr
        two.second.send(signal.SIGSTOP)
        assert workers.change("retire", str(two.gone), "--journal-lost") == 3
        two.second.send(signal.SIGCONT)
        assert "was retired" in two.second.wait_for("cannot_run")["reason"]
        assert two.first.terminate() == 0


def test_a_worker_that_is_cut_off_from_its_catalog_goes_on_and_learns_that_it_was_retired_when_it_is_back(
    workers: Workers, database: str
) -> None:
    with ExitStack() as ends:
        proxy = ends.enter_context(CatalogProxy(database))
        two = begin(ends, workers, *ON_DEMAND, catalog=proxy.url)
        with Producer(two.site.ingest_endpoint) as producer:
            assert producer.deliver(two.own[:10]).accepted == 10
            proxy.away = True
            proxy.cut()
            two.second.wait_for("lease_lost")
            assert workers.change("retire", str(two.gone), "--journal-lost") == 3
            assert producer.deliver(two.own[10:20]).accepted == 10
            proxy.away = False
            assert "was retired" in two.second.wait_for("cannot_run")["reason"]
            assert two.second.wait() == 1
        kept = b"".join(path.read_bytes() for path in (two.site.data / "ingest" / "journal").iterdir())
        assert kept.count(b'"kind":"run.event"') == 20
        assert stored(workers) == 0
        assert two.first.terminate() == 0


def test_a_flush_under_way_when_its_worker_is_retired_comes_to_nothing_and_its_journal_is_there_once(
    workers: Workers, tmp_path: Path
) -> None:
    with ExitStack() as ends:
        two = begin(ends, workers, *ON_DEMAND)
        with Producer(two.site.ingest_endpoint) as producer:
            producer.deliver(two.own)
        two.second.kill()
        copy, folder, log = tmp_path / "copy", two.site.data / "ingest", Log("test", "error")
        shutil.copytree(two.site.data, copy)
        lease = Lease(workers.place, Member(worker=two.gone, endpoint="ipc:///x"), LeaseToken(folder), log)

        def is_stopped_after_its_look() -> None:
            lease.confirm()
            lease.close()  # its host is gone, as far as the server can see
            assert workers.change("retire", str(two.gone), "--journal", str(copy)) == 3

        def is_held() -> bool:
            with suppress(LakeUnavailable):  # the server has not noticed yet that the other is gone
                lease.confirm()
            return lease.held

        eventually(is_held)
        lake = LakeWriter(lease.lake, CrashPoints({}), log, before_commit=is_stopped_after_its_look)
        ends.callback(lake.close)
        lake_id = lake.open()
        (segment,) = recover(folder / "journal", folder / "aside", lake_id, lambda of: lake.flushed(of)[0], log)
        assert not lake.flush(segment)  # not stored: it is there, from the copy
        assert stored(workers) == len(two.own)
        assert two.first.terminate() == 0
