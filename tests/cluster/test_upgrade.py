"""A rolling upgrade: the version before and this one side by side, in each role, while agents of both emit (P1, P2)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.oracle import settled
from cluster.senders import Senders
from support.cluster import Cluster, Node
from support.haproxy import find_haproxy
from support.objectstore import ObjectStore

BEFORE = "da5d9ed"
"""The commit that is the version before."""
_ROOT = Path(__file__).parents[2]
_PER_SECOND = 100
_FLAGS = ("--flush-interval-ms", "1000")


@pytest.fixture
def before(tmp_path: Path) -> dict[str, str]:
    """What a process of the version before has in its environment."""
    folder = tmp_path / "before"
    folder.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(_ROOT), "archive", BEFORE, "shared", "ingest", "query"], capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip(f"commit {BEFORE} is not in this checkout")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    env = {"PYTHONPATH": ":".join(str(folder / root) for root in ("shared", "ingest", "query"))}
    where = [sys.executable, "-c", "import runlake; print(runlake.__file__)"]
    assert str(folder) in subprocess.run(where, env=os.environ | env, capture_output=True, text=True, check=True).stdout
    return env


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


def upgrade(node: Node) -> None:
    node.terminate()
    node.env.clear()
    node.start()
    node.wait()
