"""The oracle of the cluster suite: what was acknowledged is in the lake, once; each message is in one flush of its
worker, and the books balance; each sender's messages stand in the order in which it sent them, whatever worker took
them; and every query process tells the same."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import duckdb
import pytest

from runlake.lake.attach import read_lake
from support.cluster import Cluster
from support.processes import pauses

_DEADLINE_S = 200.0
_LOG = "(SELECT worker, seq, event_id FROM lake.run_changes UNION ALL SELECT worker, seq, event_id FROM lake.events)"
_OUTSIDE_OF_FLUSHES = f"""
    SELECT count(*) FROM {_LOG} AS message WHERE (
        SELECT count(*) FROM lake.flushes AS flush
        WHERE flush.worker = message.worker AND message.seq BETWEEN flush.first_seq AND flush.last_seq
    ) <> 1
"""
_OUT_OF_ORDER = """
    SELECT count(*) FROM (
        SELECT number, lag(number) OVER (PARTITION BY kind, run ORDER BY seq) AS before FROM (
            SELECT 'event' AS kind, run_id::VARCHAR AS run, seq, (payload->>'number')::BIGINT AS number
            FROM lake.events WHERE run_id LIKE 'run-%'
            UNION ALL
            SELECT kind, run_event_id::VARCHAR, seq, items_succeeded
            FROM lake.run_changes WHERE kind = 'run.updated'
        )
    ) WHERE number <= before
"""


class ClusterFacts(NamedTuple):
    messages: int
    distinct_ids: int
    distinct_positions: int
    positions_flushed: int
    """How many positions the rows of `flushes` are for."""
    outside_of_flushes: int
    """Messages that are not in exactly one flush."""
    unbalanced_batches: int
    accepted_in_books: int
    out_of_order: int


@contextmanager
def _lake(cluster: Cluster) -> Iterator[duckdb.DuckDBPyConnection]:
    """The lake as it stands."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in cluster.lake_env.items():
            environment.setenv(name, value)
        with read_lake(cluster.place) as connection:
            yield connection


def cluster_facts(cluster: Cluster) -> ClusterFacts:
    """Read the lake as it stands."""
    with _lake(cluster) as connection:

        def one(sql: str) -> int:
            row = connection.execute(sql).fetchone()
            assert row is not None
            return int(row[0])

        return ClusterFacts(
            messages=one(f"SELECT count(*) FROM {_LOG}"),
            distinct_ids=one(f"SELECT count(DISTINCT event_id) FROM {_LOG}"),
            distinct_positions=one(f"SELECT count(DISTINCT (worker, seq)) FROM {_LOG}"),
            positions_flushed=one("SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM lake.flushes"),
            outside_of_flushes=one(_OUTSIDE_OF_FLUSHES),
            unbalanced_batches=one(
                "SELECT count(*) FROM lake.deliveries WHERE received <> accepted + duplicate + rejected"
            ),
            accepted_in_books=one("SELECT coalesce(sum(accepted), 0) FROM lake.deliveries"),
            out_of_order=one(_OUT_OF_ORDER),
        )


def settled(cluster: Cluster, expected: int) -> ClusterFacts:
    """Wait until the lake has `expected` messages, and judge it; and whether every query process, and `runlake verify`,
    find the same in it."""
    until = time.monotonic() + _DEADLINE_S
    for _ in pauses(0.5):  # each look at the lake costs about that
        facts = cluster_facts(cluster)
        if facts.messages >= expected:
            break
        assert time.monotonic() < until, f"not all is in the lake within {_DEADLINE_S} s: {facts}"
    judge(facts, expected)
    judge_query_processes(cluster)
    report = cluster.command("verify", "--json", "--http", cluster.queries[0].address, deadline_s=_DEADLINE_S)
    assert report["wrong"] == 0, report
    return facts


def judge(facts: ClusterFacts, expected: int) -> None:
    """Are these the facts of a lake with exactly `expected` messages, each once, in order, with balanced books?"""
    wanted = ClusterFacts(
        messages=expected,
        distinct_ids=expected,
        distinct_positions=expected,
        positions_flushed=expected,
        outside_of_flushes=0,
        unbalanced_batches=0,
        accepted_in_books=expected,
        out_of_order=0,
    )
    assert facts == wanted, f"{facts}, and not {wanted}"


def judge_query_processes(cluster: Cluster) -> None:
    """Where the lake ends, every query process exports the same runs and events."""
    position = _lake_position(cluster)
    told = [_exports(cluster, query.url, position) for query in cluster.queries]
    for query, exports in zip(cluster.queries[1:], told[1:], strict=True):
        for path, rows in exports.items():
            others = told[0][path]
            only, missing = sorted(Counter(rows) - Counter(others)), sorted(Counter(others) - Counter(rows))
            assert not only and not missing, (
                f"{path} at {position}: {query.name} tells {len(rows):,} rows, and {cluster.queries[0].name}"
                f" {len(others):,}; {len(only):,} and {len(missing):,} differ, such as {only[:2]} and {missing[:2]}"
            )


def _lake_position(cluster: Cluster) -> str:
    """The last position of each worker in the lake. What query processes tell would not do: they may all be behind, and
    then the first one asked exports less than the next."""
    with _lake(cluster) as connection:
        rows = connection.execute("SELECT worker::VARCHAR, max(last_seq) FROM lake.flushes GROUP BY worker").fetchall()
    return ",".join(f"{worker}:{seq}" for worker, seq in sorted(rows))


def _exports(cluster: Cluster, url: str, position: str) -> dict[str, Any]:
    exports = {}
    for path in ("/api/v1/runs", "/api/v1/events"):
        reply = cluster.get(url, path, format="ndjson", after=position)
        assert reply.status == 200, reply.text
        exports[path] = sorted(reply.text.splitlines())
    return exports
