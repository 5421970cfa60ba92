"""From `emit` to visible: in a point read, in the list, in a rollup and on a stream, at several rates of load.

A probe is a run that is emitted and then asked for until it is there; the stream tells of the same runs by itself. The
load is a process of its own, and so is each RunLake process: all share the machine's cores.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import msgspec

import runlake
from benchmarks.figures import figure, percentile
from support.processes import Process, Site, wait_until
from support.streaming import Stream

TESTS = Path(__file__).parents[1]
RATES = (10, 1_000, 20_000)


def run(short: bool) -> None:
    seconds = 1.0 if short else 10.0
    for rate in RATES[:2] if short else RATES:
        with _site() as (site, ingest, query, url):
            _at_rate(site, ingest, query, url, rate, seconds)
    with _site() as (_, ingest, query, _url):
        _idle(ingest, query, 1.0 if short else 20.0)


@contextmanager
def _site() -> Iterator[tuple[Site, Process, Process, str]]:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.ingest() as ingest:
            query, url = site.query()
            with query:
                query.wait_for("feed_heard")
                yield site, ingest, query, url


@contextmanager
def _child(module: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    with subprocess.Popen(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _at_rate(site: Site, ingest: Process, query: Process, url: str, rate: int, seconds: float) -> None:
    emitter = runlake.Emitter(endpoint=site.ingest_endpoint)
    kinds: dict[str, Callable[[_Get, str], bool]] = {"GET": _in_get, "list": _in_list, "rollup": _in_rollup}
    took: dict[str, list[float]] = {kind: [] for kind in (*kinds, "SSE")}
    with _child("load", site.ingest_endpoint, rate) as load, _Watch(url) as watch:
        get = _Get(url)
        pause = threading.Event()
        pause.wait(seconds / 5)
        before = _cpu(ingest), _cpu(query)
        begun = perf_counter()
        for kind, visible in kinds.items():
            until = perf_counter() + seconds / len(kinds)
            while perf_counter() < until:
                run_id = str(emitter.new_id())
                emitted = perf_counter()
                with runlake.track_run("probe", kind, run_id=run_id, item_name=run_id, emitter=emitter):
                    pass
                while not visible(get, run_id):
                    pause.wait(0.002)
                took[kind].append(perf_counter() - emitted)
                took["SSE"].append(watch.heard_at(run_id) - emitted)
                pause.wait(0.01)
        elapsed = perf_counter() - begun
        used = _cpu(ingest) - before[0], _cpu(query) - before[1]
        reached = _end(load)
        get.close()
    emitter.close(1)
    for kind, found in took.items():
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            facts: dict[str, Any] = {"rate": rate, "reached": round(float(reached)), "probes": len(found)}
            figure(f"emit to visible in {kind} {name}", percentile(found, share) * 1000, "ms", **facts)
    for name, seconds_used in zip(("ingest", "query"), used, strict=True):
        figure(f"CPU of {name} under load", 100 * seconds_used / elapsed, "% of one core", rate=rate)


def _idle(ingest: Process, query: Process, seconds: float) -> None:
    pause = threading.Event()
    pause.wait(3)  # what belongs to the start is over
    before, begun = (_cpu(ingest), _cpu(query)), perf_counter()
    pause.wait(seconds)
    elapsed = perf_counter() - begun
    for name, process, was in zip(("ingest", "query"), (ingest, query), before, strict=True):
        figure(f"CPU of idle {name}", max(0.001, 100 * (_cpu(process) - was) / elapsed), "% of one core")


def _end(child: subprocess.Popen[str]) -> str:
    assert child.stdin
    assert child.stdout
    child.stdin.write("\n")
    child.stdin.flush()
    return child.stdout.readline()


class _Get:
    """GETs on one connection."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def __call__(self, path: str) -> tuple[int, bytes]:
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        self._connection.close()


def _in_get(get: _Get, run_id: str) -> bool:
    return get(f"/api/v1/runs/{run_id}")[0] == 200


def _in_list(get: _Get, run_id: str) -> bool:
    return run_id.encode() in get("/api/v1/runs?agent_name=probe&limit=5")[1]


def _in_rollup(get: _Get, run_id: str) -> bool:
    body = get(f"/api/v1/rollups?agent_name=probe&q={run_id}&measures=runs")[1]
    return bool(msgspec.json.decode(body)["totals"]["runs"])


class _Watch(Stream):
    """A client of the stream that notes when it heard of which run."""

    def __init__(self, url: str, **parameters: Any) -> None:
        super().__init__(url, **(parameters or {"agent_name": "probe"}))

    def heard_at(self, run_id: str) -> float:
        """When the stream first told of a run."""
        wait_until(lambda: run_id in self.first_heard, "the stream tells of the run")
        return self.first_heard[run_id]


def _cpu(process: Process) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
