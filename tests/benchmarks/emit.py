"""What `emit` costs on the agent's thread, per call, with a worker that answers and with none."""

from __future__ import annotations

import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter_ns

import runlake
from benchmarks.figures import figure, percentile
from support.processes import Site


def run(short: bool) -> None:
    calls = 5_000 if short else 50_000
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.ingest():
            _measure("worker up", site.ingest_endpoint, calls)
        _measure("worker absent", site.ingest_endpoint, calls)
        with site.ingest():
            _track_run(site.ingest_endpoint, calls // 10)


def _measure(condition: str, endpoint: str, calls: int) -> None:
    emitter = runlake.Emitter(endpoint=endpoint, queue_messages=calls * 2)
    now = datetime.now(UTC)
    event = runlake.RunEvent(event_id=emitter.new_id(), run_id="run", ts=now, type="step", payload={"text": "x" * 100})
    emitter.emit(event)  # starts the thread
    breath = threading.Event()
    costs: list[int] = []
    for number in range(calls):
        begun = perf_counter_ns()
        emitter.emit(event)
        costs.append(perf_counter_ns() - begun)
        if number % 100 == 0:
            breath.wait(0.001)  # an agent does something between its messages
    for share, name in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")):
        figure(f"emit {name}", percentile(costs, share) / 1000, "us", condition=condition, calls=calls)
    emitter.close(0)


def _track_run(endpoint: str, calls: int) -> None:
    emitter = runlake.Emitter(endpoint=endpoint, queue_messages=calls * 4)
    costs: list[int] = []
    for _ in range(calls):
        begun = perf_counter_ns()
        with runlake.track_run("bench", "bench", emitter=emitter) as run:
            run.event("step", {"text": "x" * 100})
        costs.append(perf_counter_ns() - begun)
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        figure(f"track_run with one event {name}", percentile(costs, share) / 1000, "us", calls=calls)
    emitter.close(5)
