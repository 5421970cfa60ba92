"""A worker that dies with its disk while agents emit: what it had acknowledged and not flushed is lost, as the operator
is told, and nothing else is; agents and query processes go on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from cluster.oracle import cluster_facts, settled
from cluster.senders import Senders
from runlake.lake.attach import read_lake
from support.cluster import Cluster, Worker
from support.haproxy import find_haproxy
from support.objectstore import ObjectStore
from support.processes import wait_until

_PER_SECOND = 100
_FLAGS = ("--flush-interval-ms", "5000")


class _Line(msgspec.Struct):
    event_id: UUID | None = None
    seq: int | None = None


def journaled(worker: Worker) -> set[UUID]:
    """The ids of all whole messages that are in a worker's journal now."""
    found = set()
    for segment in sorted((worker.data / "ingest" / "journal").glob("*.ndjson")):
        lines = b""
        with suppress(FileNotFoundError):  # flushed meanwhile
            lines = segment.read_bytes()
        for text in lines.splitlines(keepends=True):
            line = msgspec.json.decode(text, type=_Line) if text.endswith(b"\n") else _Line()
            if line.seq is not None and line.event_id is not None:
                found.add(line.event_id)
    return found


def in_lake(cluster: Cluster, wanted: set[UUID]) -> set[UUID]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in cluster.lake_env.items():
            environment.setenv(name, value)
        with read_lake(cluster.place) as connection:
            rows = connection.execute(
                "SELECT event_id FROM lake.events UNION ALL SELECT event_id FROM lake.run_changes"
            ).fetchall()
    return wanted & {row[0] for row in rows}


@pytest.mark.skipif(find_haproxy() is None, reason="needs Debian's package haproxy")
def test_what_a_worker_had_not_flushed_when_its_disk_was_lost_is_all_that_is_lost(
    database: str, bucket: str, object_store: ObjectStore, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path / "c", database, bucket, object_store.env, *_FLAGS, workers=2, queries=1)
    with cluster, Senders() as senders:
        for _ in range(2):
            senders.begin_agent(cluster.endpoints, _PER_SECOND, {})
        stays, gone = cluster.workers
        wait_until(lambda: cluster_facts(cluster).messages > 0, "something is in the lake")
        wait_until(lambda: len(journaled(gone)) > 0, "something is in the journal alone")
        gone.kill()
        given_up = journaled(gone) - in_lake(cluster, journaled(gone))
        done = cluster.run("workers", "retire", gone.id, "--journal-lost")
        assert done.returncode == 0 and "given up" in done.stderr, done.stderr
        cluster.workers.remove(gone)
        books = senders.end()
        stays.process.wait_for("workers_followed")
        wait_until(lambda: not journaled(stays), "the journal of the one that stays is in the lake")
        lost = given_up - in_lake(cluster, given_up)  # what had yet to be acknowledged was sent again
        assert lost
        settled(cluster, books.acknowledged - len(lost))
        gone.close()
