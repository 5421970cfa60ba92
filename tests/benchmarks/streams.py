"""Many clients of one query process, each of which should hear every event: what they heard, and what it cost.

For each client, the events that it was sent and those that it was told the number of must be what was emitted: the
figures say both, and how many clients were short of it (none should be).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

import runlake
from benchmarks.figures import figure
from benchmarks.processor import cpu_s
from support.processes import Process, Site

TESTS = Path(__file__).parents[1]
_WATCHERS = 2
"""Processes that the clients are spread over, so that they are not what is measured."""


def run(short: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.ingest() as ingest:
            query, url = site.query()
            with query:
                query.wait_for("feed_heard")
                _watched(site, ingest, query, url, 20 if short else 1_000, 1_000, 1.0 if short else 10.0)


def _watched(site: Site, ingest: Process, query: Process, url: str, clients: int, rate: int, seconds: float) -> None:
    watchers = [_watcher(url, clients // _WATCHERS) for _ in range(_WATCHERS)]
    try:
        for watcher in watchers:
            assert watcher.stdout
            assert watcher.stdout.readline() == "ready\n"
        before, begun = [cpu_s(process) for process in (query, ingest)], monotonic()
        emitted = _emit(site.ingest_endpoint, rate, seconds)
        for watcher in watchers:  # each ends when all of its clients have heard of so many
            assert watcher.stdin
            watcher.stdin.write(f"{emitted}\n")
            watcher.stdin.flush()
        heard = [msgspec.json.decode(watcher.stdout.readline()) for watcher in watchers if watcher.stdout]
        took = monotonic() - begun
        used = [cpu_s(process) - was for process, was in zip((query, ingest), before, strict=True)]
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.communicate()
    sent, coalesced = (sum(one[name] for one in heard) for name in ("sent", "coalesced"))
    facts: dict[str, Any] = {"clients": clients, "rate": round(emitted / seconds), "events": emitted}
    facts |= {name: sum(one[name] for one in heard) for name in ("short", "ended")}
    figure("frames sent to clients of one process", sent / took, "1/s", **facts)
    figure("share of the frames that were sent and not coalesced", 100 * sent / (sent + coalesced), "%", **facts)
    for name in ("p50", "p99"):
        figure(f"emit to heard by one of many clients {name}", max(one[name] for one in heard), "ms", **facts)
    figure("CPU of query with clients", 100 * used[0] / took, "% of one core", **facts)
    figure("CPU of query for each frame to a client", 1e6 * used[0] / sent, "us", **facts)


def _watcher(url: str, clients: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.watcher", url, str(clients)]
    return subprocess.Popen(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _emit(endpoint: str, rate: int, seconds: float) -> int:
    """Emit run events at a steady rate, each with the time at which it was; returns how many."""
    emitter = runlake.Emitter(endpoint=endpoint, queue_messages=200_000)
    pause, begun, sent = threading.Event(), monotonic(), 0
    with runlake.track_run("load", "load", emitter=emitter) as run:
        while monotonic() < begun + seconds:
            for _ in range(int((monotonic() - begun) * rate) - sent):
                run.event("load", {"at": monotonic(), "text": "x" * 40})
                sent += 1
            pause.wait(0.005)
    emitter.flush(60)
    emitter.close(1)
    return sent
