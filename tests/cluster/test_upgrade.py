"""A rolling upgrade: the version before and this one side by side, in each role, while agents of both emit (P1, P2)."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from cluster.oracle import settled
from cluster.senders import Senders
from runlake.emitter import Emitter
from support.cluster import Cluster, Node, clean_environment
from support.haproxy import find_haproxy
from support.objectstore import ObjectStore
from support.processes import Site, wait_until
from support.producer import Producer
from support.reading import LOG, one
from support.samples import event
from support.workers import Workers

BEFORE = "da5d9ed"
"""The commit that is the version before."""
BEFORE_LISTS = "6980f9e"
"""The last one that knows of one worker alone."""
_ROOT = Path(__file__).parents[2]
_PER_SECOND = 100
_FLAGS = ("--flush-interval-ms", "1000")
_EMIT = """
import sys, uuid, datetime, runlake
emitter = runlake.Emitter(endpoint=sys.argv[1], spool=sys.argv[2], ack_timeout_s=0.2)
for number in range(int(sys.argv[3])):
    now = datetime.datetime.now(datetime.timezone.utc)
    emitter.emit(runlake.RunEvent(event_id=uuid.uuid4(), run_id=f"run-{number}", ts=now, type="step", payload={}))
print(emitter.flush(float(sys.argv[4])), sum(emitter.stats().dropped.values()))
emitter.close(0)
"""


def version(commit: str, folder: Path) -> dict[str, str]:
    """What a process of this commit has in its environment; `folder` is for its code."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(_ROOT), "archive", commit, "shared", "ingest", "query"], capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip(f"commit {commit} is not in this checkout; `git fetch --unshallow` brings it to a shallow clone")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    env = {"PYTHONPATH": ":".join(str(folder / root) for root in ("shared", "ingest", "query"))}
    where = [sys.executable, "-c", "import runlake; print(runlake.__file__)"]
    assert str(folder) in subprocess.run(where, env=os.environ | env, capture_output=True, text=True, check=True).stdout
    return env


@pytest.fixture
def before(tmp_path: Path) -> dict[str, str]:
    """Of the version before."""
    return version(BEFORE, tmp_path / "before")


@pytest.fixture
def before_lists(tmp_path: Path) -> dict[str, str]:
    """Of the last version without lists of workers."""
    return version(BEFORE_LISTS, tmp_path / "before-lists")


@pytest.mark.skipif(find_haproxy() is None, reason="needs Debian's package haproxy")
def test_p1_two_versions_work_side_by_side_through_a_rolling_upgrade(
    before: dict[str, str], database: str, bucket: str, object_store: ObjectStore, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path / "c", database, bucket, object_store.env, *_FLAGS, workers=2, queries=1)
    for node in cluster.nodes:
        node.env |= before
    with cluster, Senders() as senders:
        senders.begin_agent(cluster.endpoints, _PER_SECOND, before)
        senders.begin_agent(cluster.endpoints, _PER_SECOND, {})
        senders.begin_http(cluster.haproxy.address, {"RUNLAKE_TOKEN": cluster.token})
        for node in cluster.nodes:  # workers first, as docs/deploy.md says
            upgrade(node)
        books = senders.end()
        settled(cluster, books.acknowledged)


def test_p1_agents_from_before_there_were_lists_go_on_with_one_worker_that_is_upgraded(
    before_lists: dict[str, str], tmp_path: Path
) -> None:
    site = Site(tmp_path)
    site.env |= before_lists
    with Senders() as senders:
        with site.ingest(*_FLAGS) as old:
            for env in (before_lists, {}):
                senders.begin_agent(site.ingest_endpoint, _PER_SECOND, env)
            wait_until(lambda: at_least(site, 50), "both have begun")
            assert old.terminate() == 0
        taken = one(site.catalog, f"SELECT count(*) FROM {LOG}")
        site.env.clear()
        with site.ingest(*_FLAGS) as new:
            wait_until(lambda: at_least(site, taken + 50), "both go on")
            books = senders.end()
            assert new.terminate() == 0
    assert one(site.catalog, f"SELECT count(*) FROM {LOG}") == books.acknowledged
    assert one(site.catalog, f"SELECT count(DISTINCT event_id) FROM {LOG}") == books.acknowledged


def at_least(site: Site, count: int) -> bool:
    """Whether the worker has numbered so many."""
    with Producer(site.ingest_endpoint) as producer:
        return producer.position().accepted >= count


def test_p7_what_an_agent_from_before_lists_cannot_deliver_to_several_workers_an_upgraded_one_does(
    before_lists: dict[str, str], database: str, tmp_path: Path
) -> None:
    """It sends by no list, and does not know what `not_mine` is: it keeps all that it emitted in its spool."""
    workers = Workers(tmp_path, database)
    a, b = workers.site("a"), workers.site("b")

    def emit(count: int, seconds: float) -> str:
        arguments = (a.ingest_endpoint, str(tmp_path / "spool"), str(count), str(seconds))
        done = subprocess.run(
            [sys.executable, "-c", _EMIT, *arguments], env=clean_environment() | before_lists, capture_output=True,
            text=True, timeout=120, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    with a.ingest() as first, b.ingest() as second:
        assert emit(40, 60) == "True 0", "to one worker it delivers"
        assert workers.change("add") == 2
        assert emit(60, 1) == "False 0", "to several it does not, and drops nothing"
        found = "SELECT count(*), count(DISTINCT event_id) FROM {lake}.events"
        upgraded = Emitter(a.ingest_endpoint, spool=tmp_path / "spool", exit_timeout_s=0)
        with closing(upgraded), Producer(a.ingest_endpoint) as to_a, Producer(b.ingest_endpoint) as to_b:
            upgraded.emit(event())

            def all_is_there() -> bool:
                to_a.flush(), to_b.flush()
                return workers.rows(found) == [(101, 101)]

            wait_until(all_is_there, "the upgraded agent has delivered what was left")
        for process in (first, second):
            assert process.terminate() == 0


def upgrade(node: Node) -> None:
    node.terminate()
    node.env.clear()
    node.start()
    node.wait()
