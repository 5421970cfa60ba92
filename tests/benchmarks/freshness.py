"""From `emit` to visible: in a point read, in the list, in a rollup and on a stream, at several rates of load.

A probe is a run. Probes are emitted at a pace of their own, so that a stall is seen by all that fall into it, and at
times that follow no beat of the system's. One client asks for those that are not visible yet: as soon as something new
is reflected (`?after=`), and not in a loop, which would be the load that it measures. The stream tells of the same runs
by itself. The rate is of all messages, those of the probes among them. The load is a process of its own, and so is each
RunLake process: all share the machine's cores.
"""

from __future__ import annotations

import http.client
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import msgspec

import runlake
from benchmarks.figures import figure, percentile
from benchmarks.processor import cpu_s
from support.processes import Process, Site, wait_until
from support.streaming import Stream

TESTS = Path(__file__).parents[1]
RATES = (10, 1_000, 20_000)
KINDS = ("GET", "list", "rollup")
_PROBES_A_SECOND = 50
_SHARE_OF_PROBES = 0.4
"""Of the messages, at most; two make a probe."""


def run(short: bool) -> None:
    seconds = 1.0 if short else 8.0
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
    """Measure each kind of read for so many seconds, and the stream all the while."""
    emitter = runlake.Emitter(endpoint=site.ingest_endpoint)
    pace = min(_PROBES_A_SECOND, _SHARE_OF_PROBES * rate / 2)
    took: dict[str, list[float]] = {kind: [] for kind in (*KINDS, "SSE")}
    with _child("load", site.ingest_endpoint, rate - round(2 * pace)) as load, _Watch(url, job_type="probe") as watch:
        asker = _Asker(url)
        threading.Event().wait(1)
        before = cpu_s(ingest), cpu_s(query)
        begun = perf_counter()
        for kind in KINDS:
            with _Probes(emitter, kind, pace, seconds) as probes:
                seen = asker.follow(kind, probes)
            took[kind] += [seen[run_id] - emitted for run_id, emitted in probes.emitted.items()]
            took["SSE"] += [watch.heard_at(run_id) - emitted for run_id, emitted in probes.emitted.items()]
        elapsed = perf_counter() - begun
        used = cpu_s(ingest) - before[0], cpu_s(query) - before[1]
        reached = float(_end(load)) + 2 * len(took["SSE"]) / elapsed
        asker.close()
    emitter.close(1)
    for kind, found in took.items():
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            facts: dict[str, Any] = {"rate": rate, "reached": round(reached), "probes": len(found)}
            figure(f"emit to visible in {kind} {name}", percentile(found, share) * 1000, "ms", **facts)
    for name, seconds_used in zip(("ingest", "query"), used, strict=True):
        figure(f"CPU of {name} under load", 100 * seconds_used / elapsed, "% of one core", rate=rate)


def _idle(ingest: Process, query: Process, seconds: float) -> None:
    pause = threading.Event()
    pause.wait(3)  # what belongs to the start is over
    before, begun = (cpu_s(ingest), cpu_s(query)), perf_counter()
    pause.wait(seconds)
    elapsed = perf_counter() - begun
    for name, process, was in zip(("ingest", "query"), (ingest, query), before, strict=True):
        figure(f"CPU of idle {name}", max(0.001, 100 * (cpu_s(process) - was) / elapsed), "% of one core")


def _end(child: subprocess.Popen[str]) -> str:
    assert child.stdin
    assert child.stdout
    child.stdin.write("\n")
    child.stdin.flush()
    return child.stdout.readline()


class _Probes:
    """Runs that are emitted, `pace` a second for so many `seconds`. Use as a context manager."""

    def __init__(self, emitter: runlake.Emitter, kind: str, pace: float, seconds: float) -> None:
        self._emitter = emitter
        self.agent = f"probe-{kind}"
        self._pace = pace
        self._seconds = seconds
        self.emitted: dict[str, float] = {}
        """When each was emitted (time.perf_counter), in order."""
        self._thread = threading.Thread(target=self._run)

    @property
    def over(self) -> bool:
        """Whether no more will come."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        dice, pause = random.Random(1), threading.Event()
        due = perf_counter()
        until = due + self._seconds
        while due < until:
            pause.wait(max(0.0, due - perf_counter()))
            run_id = str(self._emitter.new_id())
            self.emitted[run_id] = perf_counter()
            with runlake.track_run(self.agent, "probe", run_id=run_id, emitter=self._emitter):
                pass
            due += dice.uniform(0.5, 1.5) / self._pace

    def __enter__(self) -> _Probes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()


class _Asker:
    """Asks on one connection, again whenever something new is reflected."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        self._reflected = ""

    def follow(self, kind: str, probes: _Probes) -> dict[str, float]:
        """When each probe was first answered (time.perf_counter)."""
        seen: dict[str, float] = {}
        pause = threading.Event()
        while True:
            over = probes.over
            waiting = [run_id for run_id in list(probes.emitted) if run_id not in seen]
            if not waiting and over:
                return seen
            if not waiting:
                pause.wait(0.001)
                continue
            found = self._visible(kind, probes, waiting)
            now = perf_counter()
            seen |= dict.fromkeys(found, now)

    def _visible(self, kind: str, probes: _Probes, waiting: list[str]) -> list[str]:
        """Those of the waiting that are there, once something new is."""
        match kind:
            case "GET":
                status, _ = self._get(f"/api/v1/runs/{waiting[0]}?")
                if status != http.HTTPStatus.OK:
                    return []
                self._reflected = ""  # the next one may be there as well
                return waiting[:1]
            case "list":
                _, body = self._get(f"/api/v1/runs?agent_name={probes.agent}&limit=100&")
                return [run_id for run_id in waiting if run_id.encode() in body]
            case _:
                status, body = self._get(f"/api/v1/rollups?agent_name={probes.agent}&measures=runs&")
                count = msgspec.json.decode(body)["totals"]["runs"] if status == http.HTTPStatus.OK else 0
                visible = set(list(probes.emitted)[:count])
                return [run_id for run_id in waiting if run_id in visible]

    def _get(self, path: str) -> tuple[int, bytes]:
        """The answer to what is asked `?after=` what the answer before reflected."""
        self._connection.request("GET", f"{path}after={self._reflected}" if self._reflected else path.rstrip("?&"))
        response = self._connection.getresponse()
        worker, _, seq = (response.headers["RunLake-Position"] or "").partition(":")
        self._reflected = f"{worker}:{int(seq) + 1}" if seq else ""
        return response.status, response.read()

    def close(self) -> None:
        self._connection.close()


class _Watch(Stream):
    """A client of the stream that notes when it heard of which run."""

    def __init__(self, url: str, **parameters: Any) -> None:
        super().__init__(url, **(parameters or {"agent_name": "probe"}))

    def heard_at(self, run_id: str) -> float:
        """When the stream first told of a run."""
        wait_until(lambda: run_id in self.first_heard, "the stream tells of the run")
        return self.first_heard[run_id]
