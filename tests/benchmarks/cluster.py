"""A cluster on one machine: PostgreSQL (with fsync), an S3 server, HAProxy, 1 to 4 workers and 1 to 4 query processes.

All of it shares the machine's cores with its senders and readers: what does not grow from one worker to four here may
be the machine's end, and not the cluster's; so the load of PostgreSQL is told beside. The S3 server is moto's, which is
there to be right and not to be quick.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg

import runlake
from benchmarks.figures import figure, percentile
from cluster.storeproxy import StoreProxy
from support.cluster import Cluster, clean_environment
from support.objectstore import ObjectStore, environment
from support.postgres import Postgres
from support.processes import Site, wait_until
from support.producer import Producer
from support.samples import events

TESTS = Path(__file__).parents[1]
_SENDERS = 4
_READERS = 4
_PROBE_RATE = 20
_INSERTED = "SELECT relname, n_tup_ins::BIGINT FROM pg_stat_user_tables WHERE schemaname = 'public' AND n_tup_ins > 0"
_SNAPSHOTS = "SELECT count(*) FROM ducklake_snapshot"
_TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"


def run(short: bool) -> None:
    shapes = [(1, 1)] if short else [(1, 1), (2, 1), (4, 1), (1, 2), (1, 4)]
    with Postgres(durable=True) as postgres, ObjectStore() as store:
        for workers, queries in shapes:
            with _cluster(postgres, store, workers, queries) as cluster:
                _ingest(postgres, cluster, 4_000 if short else 400_000)
                _freshness(cluster, 0.5 if short else 10.0)
                _reads(cluster, 0.5 if short else 8.0)
        _costs_of_a_flush(postgres, store, 3 if short else 30)


@contextmanager
def _cluster(postgres: Postgres, store: ObjectStore, workers: int, queries: int) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="rl-") as folder:
        url = postgres.create_database()
        place = Path(folder) / "c"
        with Cluster(place, url, store.create_bucket(), store.env, workers=workers, queries=queries) as cluster:
            yield cluster


def _ingest(postgres: Postgres, cluster: Cluster, messages: int) -> None:
    """As fast as four agents may; each message acknowledged, so on disk."""
    database = cluster.place.catalog.rpartition("/")[2]
    before, begun = _transactions(postgres, database), perf_counter()
    names = [f"s{number}" for number in range(_SENDERS)]
    each = str(messages // _SENDERS)
    took = [float(line) for line in _children(cluster, "cluster_sender", [(cluster.endpoints, n, each) for n in names])]
    seconds = perf_counter() - begun
    facts = {**_shape(cluster), "senders": _SENDERS, "messages": messages}
    figure("cluster: durable messages", messages / max(took), "messages/s", **facts)
    figure(
        "cluster: catalog transactions under load",
        (_transactions(postgres, database) - before) / seconds,
        "/s",
        **facts,
    )
    runs = messages // 100
    url = cluster.queries[0].url

    def all_visible() -> bool:
        reply = cluster.get(url, "/api/v1/rollups", measures="runs", agent_name="bench")
        return bool(reply.status == 200 and reply.json["totals"]["runs"] >= runs)

    wait_until(all_visible, "all runs are visible")
    figure("cluster: last message to all visible", max(0.001, perf_counter() - begun - max(took)), "s", **facts)


def _freshness(cluster: Cluster, seconds: float) -> None:
    """From `emit` to visible in a point read behind HAProxy, without other load."""
    emitter = runlake.Emitter(endpoint=cluster.endpoints, spool="off")
    pause = threading.Event()
    took = []
    for number in range(max(3, round(seconds * _PROBE_RATE))):
        run_id = f"probe-{number}" if number else "probe"
        begun = perf_counter()
        emitter.emit(
            runlake.RunStarted(
                event_id=emitter.new_id(), run_id=run_id, agent_name="probe", job_type="probe",
                start_time=datetime.now(UTC),
            )
        )  # fmt: skip
        wait_until(lambda run_id=run_id: _visible(cluster, run_id), "the probe is visible")  # type: ignore[misc]
        took.append(perf_counter() - begun)
        pause.wait(1 / _PROBE_RATE)
    emitter.close(5)
    facts = {**_shape(cluster), "probes": len(took)}
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        figure(f"cluster: emit to visible {name}", percentile(took, share) * 1000, "ms", **facts)


def _shape(cluster: Cluster) -> dict[str, Any]:
    return {"workers": len(cluster.workers), "queries": len(cluster.queries)}


def _visible(cluster: Cluster, run_id: str) -> bool:
    return cluster.get(cluster.url, f"/api/v1/runs/{run_id}").status == 200


def _reads(cluster: Cluster, seconds: float) -> None:
    """Four readers behind HAProxy, each with one connection."""
    arguments = [(cluster.haproxy.address, str(seconds))] * _READERS
    took: dict[str, list[float]] = {}
    for line in _children(cluster, "cluster_reader", arguments):
        for name, values in json.loads(line).items():
            took.setdefault(name, []).extend(values)
    facts = {**_shape(cluster), "readers": _READERS}
    figure("cluster: reads", sum(map(len, took.values())) / seconds, "/s", **facts)
    for name, values in took.items():
        for share, which in ((0.5, "p50"), (0.99, "p99")):
            figure(f"cluster: read of {name} {which}", percentile(values, share) * 1000, "ms", **facts)


def _costs_of_a_flush(postgres: Postgres, store: ObjectStore, flushes: int) -> None:
    """What one flush asks of the catalog and of the storage, whatever it holds; one worker, no maintenance."""
    with tempfile.TemporaryDirectory(prefix="rl-") as folder, StoreProxy("127.0.0.1", store.endpoint) as proxy:
        site = Site(Path(folder))
        url = postgres.create_database()
        database = url.rpartition("/")[2]
        site.env |= environment(proxy.endpoint) | {
            "RUNLAKE_CATALOG": url,
            "RUNLAKE_STORAGE": store.create_bucket(),
        }
        flags = ("--maintenance-interval-ms", "0", "--flush-interval-ms", "600000")
        with site.ingest(*flags), Producer(site.ingest_endpoint) as producer:
            producer.deliver(events(1))
            producer.flush()  # the first one makes more than the others
            rows, requests = _inserted(postgres, database), proxy.requests
            transactions, begun = _transactions(postgres, database), perf_counter()
            for _ in range(flushes):
                producer.deliver(events(500))
                producer.flush()
            seconds = perf_counter() - begun
            requests = proxy.requests - requests
            after = _inserted(postgres, database)
            transactions = _transactions(postgres, database) - transactions
    added = {name: (count - rows.get(name, 0)) / flushes for name, count in after.items()}
    facts: dict[str, Any] = {"flushes": flushes, "messages_each": 500}
    tables = {name: round(count, 1) for name, count in added.items() if count}
    figure("cluster: time of a flush", seconds / flushes * 1000, "ms", **facts)
    figure("cluster: catalog rows of a flush", sum(added.values()), "rows", tables=tables, **facts)
    figure("cluster: catalog transactions of a flush", transactions / flushes, "transactions", **facts)
    figure("cluster: storage requests of a flush", requests / flushes, "requests", **facts)


def _transactions(postgres: Postgres, database: str) -> int:
    """So many transactions have ended, as far as the server's own statistics tell: within a second."""
    return int(postgres.rows(_TRANSACTIONS, database=database)[0][0])


def _inserted(postgres: Postgres, database: str) -> dict[str, int]:
    """How many rows each table of the catalog ever got, once the server's statistics have all of them."""

    with psycopg.connect(postgres.url(database)) as connection:  # one transaction, however often it looks

        def counted() -> dict[str, int]:
            connection.execute("SELECT pg_stat_clear_snapshot()")
            return dict(connection.execute(_INSERTED).fetchall())

        snapshots = connection.execute(_SNAPSHOTS).fetchall()[0][0]
        wait_until(lambda: counted().get("ducklake_snapshot", 0) >= snapshots, "the statistics have all")
        return counted()


def _children(cluster: Cluster, module: str, arguments: Sequence[tuple[str, ...]]) -> list[str]:
    """What so many processes side by side print."""
    env = clean_environment() | {"RUNLAKE_TOKEN": cluster.token, "XDG_STATE_HOME": os.environ["XDG_STATE_HOME"]}
    children = [
        subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *own], cwd=TESTS, stdout=subprocess.PIPE, text=True, env=env
        )
        for own in arguments
    ]
    said = [child.communicate(timeout=600)[0] for child in children]
    assert all(child.returncode == 0 for child in children)
    return said
