"""What `emit` costs on the agent's thread, per call; how much one process delivers; and how large the SDK is.

The conditions: with the spool and without; one thread and eight; a worker that answers, one that hangs (stopped by
SIGSTOP), none; and beside a thread that computes all the time. An agent does something between its messages: after
every hundred calls a thread waits for a millisecond.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns

import runlake
from benchmarks.figures import figure, percentile
from support.processes import Site

_IMPORT = "from time import perf_counter as now; begun = now(); import runlake; print((now() - begun) * 1000)"
_NOTHING = "pass"
_AGENT = """
import datetime, sys, uuid, runlake
runlake.configure(endpoint=sys.argv[1], spool=sys.argv[2], exit_timeout_s=0)
for n in range(2000):
    runlake.emit(runlake.RunEvent(event_id=uuid.uuid4(), run_id="r", type="t", payload={"n": n},
                 ts=datetime.datetime.now(datetime.UTC)))
"""
_AND_ITS_MEMORY = """
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


def run(short: bool) -> None:
    calls = 5_000 if short else 40_000
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        spools = {"on": str(Path(folder) / "spool"), "off": "off"}
        with site.ingest() as worker:
            for name, spool in spools.items():
                _measure(site.ingest_endpoint, spool, calls, spool_is=name, worker="up", threads=1)
                _measure(site.ingest_endpoint, spool, calls, spool_is=name, worker="up", threads=8)
                with _busy_thread():
                    _measure(site.ingest_endpoint, spool, calls, spool_is=name, worker="up", threads=1, beside="busy")
            worker.send(signal.SIGSTOP)
            for name, spool in spools.items():
                _measure(site.ingest_endpoint, spool, calls, spool_is=name, worker="hanging", threads=1)
                _measure(site.ingest_endpoint, spool, calls, spool_is=name, worker="hanging", threads=8)
            worker.send(signal.SIGCONT)
        for name, spool in spools.items():
            _measure(site.ingest_endpoint, spool, calls, spool_is=name, worker="absent", threads=1)
            _measure(site.ingest_endpoint, spool, calls, spool_is=name, worker="absent", threads=8)
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.ingest():
            for name, spool in {"on": str(Path(folder) / "spool"), "off": "off"}.items():
                _throughput(site.ingest_endpoint, spool, calls * 5, name)
        _size(site.ingest_endpoint, str(Path(folder) / "spool"))


def _measure(
    endpoint: str, spool: str, calls: int, *, spool_is: str, worker: str, threads: int, beside: str = ""
) -> None:
    emitter = runlake.Emitter(endpoint=endpoint, spool=spool, queue_messages=calls * 2)
    now = datetime.now(UTC)
    event = runlake.RunEvent(event_id=emitter.new_id(), run_id="run", ts=now, type="step", payload={"text": "x" * 100})
    emitter.emit(event)  # starts the thread
    costs: list[int] = []

    def work() -> None:
        breath = threading.Event()
        mine: list[int] = []
        for number in range(calls // threads):
            begun = perf_counter_ns()
            emitter.emit(event)
            mine.append(perf_counter_ns() - begun)
            if number % 100 == 0:
                breath.wait(0.001)
        costs.extend(mine)

    agents = [threading.Thread(target=work) for _ in range(threads)]
    for agent in agents:
        agent.start()
    for agent in agents:
        agent.join()
    facts = {"spool": spool_is, "worker": worker, "threads": threads} | ({"beside": beside} if beside else {})
    for share, name in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")):
        figure(f"emit {name}", percentile(costs, share) / 1000, "us", **facts, calls=len(costs))
    emitter.close(0)


@contextmanager
def _busy_thread() -> Iterator[None]:
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            sum(range(1_000))

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _throughput(endpoint: str, spool: str, calls: int, name: str) -> None:
    """One process that emits as fast as it can, until the worker has it all on disk."""
    emitter = runlake.Emitter(endpoint=endpoint, spool=spool, queue_messages=calls, queue_bytes=1 << 30)
    now = datetime.now(UTC)
    begun = perf_counter()
    for _ in range(calls):
        emitter.emit(
            runlake.RunEvent(event_id=emitter.new_id(), run_id="run", ts=now, type="step", payload={"text": "x" * 40})
        )
    emitted = perf_counter() - begun
    assert emitter.flush(120), emitter.stats()
    took = perf_counter() - begun
    figure("emit flat out", calls / emitted, "messages/s", spool=name, threads=1, calls=calls)
    figure("delivered by one process", calls / took, "messages/s", spool=name, threads=1, calls=calls)
    emitter.close(5)


def _size(endpoint: str, spool: str) -> None:
    # As agents import it: compiled once, and kept.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def say(program: str) -> float:
        command = [sys.executable, "-c", program, endpoint, spool]
        said = [
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=kept) for _ in range(5)
        ]
        return median(float(run.stdout) for run in said)

    figure("import runlake", say(_IMPORT), "ms")
    figure("memory of the SDK", say(_AGENT + _AND_ITS_MEMORY) - say(_NOTHING + _AND_ITS_MEMORY), "MiB", messages=2_000)
