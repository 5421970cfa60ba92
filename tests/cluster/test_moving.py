"""From one machine to a cluster: the log is replayed into it while agents go on emitting, and nothing is lost or there
twice (P1, P2)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.oracle import settled
from cluster.senders import Senders
from faults.world import accepted
from support.cluster import Cluster, clean_environment
from support.haproxy import find_haproxy
from support.objectstore import ObjectStore
from support.processes import Site, wait_until

_PER_SECOND = 200
_FLAGS = ("--flush-interval-ms", "1000")


@pytest.mark.skipif(find_haproxy() is None, reason="needs Debian's package haproxy")
def test_p1_one_machine_moves_to_a_cluster_while_its_agents_go_on_emitting(
    database: str, bucket: str, object_store: ObjectStore, tmp_path: Path
) -> None:
    site = Site(tmp_path / "old")
    with site.ingest(*_FLAGS) as old, Senders("run-old") as before, Senders("run-new") as after:
        for _ in range(2):
            before.begin_agent(site.ingest_endpoint, _PER_SECOND, {})
        wait_until(lambda: accepted(site) > _PER_SECOND, "the old worker has something")
        with Cluster(tmp_path / "c", database, bucket, object_store.env, *_FLAGS, workers=2, queries=1) as cluster:
            for _ in range(2):
                after.begin_agent(cluster.endpoints, _PER_SECOND, {})
            replay(site, cluster)
            moved = before.end().acknowledged  # agents are restarted with the new address, and the old ones are done
            replay(site, cluster)
            assert old.terminate() == 0
            expected = moved + after.end().acknowledged
            assert settled(cluster, expected).messages == expected


def replay(site: Site, cluster: Cluster) -> None:
    """As an operator does, on the old machine."""
    env = {"RUNLAKE_DATA": str(site.data), "RUNLAKE_INGEST": site.ingest_endpoint}
    done = subprocess.run(
        [sys.executable, "-m", "runlake.cli", "replay", "--to", cluster.workers[0].endpoint],
        env=clean_environment() | env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
