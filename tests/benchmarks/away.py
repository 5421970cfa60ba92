"""The lake is away at full rate: how fast the journal grows to its limit, what that costs the worker in memory, and how
long it takes to catch up when the lake is back."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import perf_counter
from urllib.request import urlopen

from benchmarks.figures import figure
from benchmarks.memory import forget_peak, peak_mib
from support.lakeaway import lake_away
from support.processes import Process, Site, wait_until
from support.rawproducer import RawProducer
from support.resident import resident_mib

TESTS = Path(__file__).parents[1]
_PRODUCERS = 2
_DEADLINE_S = 300.0


def run(short: bool) -> None:
    _away(*((16, 1.0) if short else (1_024, 20.0)))


def _away(limit_mib: int, paused_s: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.ingest("--journal-max-mb", str(limit_mib)) as worker, RawProducer(site.ingest_endpoint) as control:
            before = resident_mib(worker.pid)
            with lake_away(site):
                begun = perf_counter()
                producers = [_flood(site) for _ in range(_PRODUCERS)]
                worker.wait_for("paused", _DEADLINE_S)
                filled_s = perf_counter() - begun
                paused, held, taken = resident_mib(worker.pid), _journal(site), _accepted(worker)
                forget_peak(worker)
                threading.Event().wait(paused_s)
                while_paused = peak_mib(worker)
            back = perf_counter()
            accepted = sum(_end(producer) for producer in producers)
            wait_until(lambda: control.position().flushed == accepted, "all is in the lake", _DEADLINE_S)
            caught_up_s = perf_counter() - back
            facts = {"journal_max_mib": limit_mib, "producers": _PRODUCERS, "messages": accepted}
            figure("away rate", taken / filled_s, "1/s", **facts)
            figure("away journal bytes per event", held / taken, "B", **facts)
            figure("away RSS before", before, "MiB", **facts)
            figure("away RSS at the limit", paused, "MiB", **facts)
            figure("away RSS at most while paused", while_paused, "MiB", **facts)
            figure("away RSS at most while catching up", peak_mib(worker), "MiB", **facts)
            figure("away catching up", caught_up_s, "s", **facts)
            figure("away RSS after", resident_mib(worker.pid), "MiB", **facts)
            assert worker.terminate() == 0


def _flood(site: Site) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.flood", site.ingest_endpoint]
    return subprocess.Popen(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _end(producer: subprocess.Popen[str]) -> int:
    """Have it send no more; returns how many of its events were accepted."""
    said, _ = producer.communicate(timeout=_DEADLINE_S)
    return int(said)


def _accepted(worker: Process) -> int:
    """How many events it has accepted: it says so while it reads no socket, too."""
    with urlopen(f"http://{worker.wait_for('ready')['metrics']}/metrics", timeout=_DEADLINE_S) as page:
        lines = [line.split() for line in page.read().decode().splitlines()]
    (value,) = (line[1] for line in lines if line[:1] == ["runlake_ingest_accepted_seq"])
    return int(float(value))


def _journal(site: Site) -> int:
    return sum(path.stat().st_size for path in (site.data / "ingest" / "journal").iterdir())
