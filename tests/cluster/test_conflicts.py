"""Workers that flush and merge all the time commit to one catalog at once: whoever comes second tries again, and
nothing is lost or there twice (P1, P2)."""

from __future__ import annotations

from pathlib import Path

from cluster.oracle import cluster_facts, judge
from cluster.senders import Senders
from support.cluster import Cluster
from support.objectstore import ObjectStore
from support.postgres import Postgres
from support.processes import wait_until

_PER_SECOND = 200
_FLAGS = ("--flush-interval-ms", "10", "--maintenance-interval-ms", "100", "--maintenance-keep-s", "1")
_CONFLICTS = 10


def test_p2_workers_that_commit_at_once_try_again_and_store_each_message_once(
    postgres: Postgres, database: str, bucket: str, object_store: ObjectStore, tmp_path: Path
) -> None:
    before = conflicts(postgres)
    with (
        Cluster(tmp_path / "c", database, bucket, object_store.env, *_FLAGS, workers=3, queries=0) as cluster,
        Senders() as senders,
    ):
        for _ in range(2):
            senders.begin_agent(cluster.endpoints, _PER_SECOND, {})
        wait_until(lambda: conflicts(postgres) >= before + _CONFLICTS, "some commits come second")
        expected = senders.end().acknowledged
        for worker in cluster.workers:
            worker.terminate()
        judge(cluster_facts(cluster), expected)


def conflicts(postgres: Postgres) -> int:
    """How many commits the server has refused, since another one was first."""
    return postgres.logged().count('duplicate key value violates unique constraint "ducklake_snapshot_pkey"')
