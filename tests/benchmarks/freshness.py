"""From `emit` to visible: how long until a read through the HTTP API shows a run."""

from __future__ import annotations

import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from time import perf_counter

import runlake
from benchmarks.figures import figure, percentile
from support.processes import Site


def run(short: bool) -> None:
    runs = 20 if short else 200
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.ingest():
            query, url = site.query()
            with query:
                emitter = runlake.Emitter(endpoint=site.ingest_endpoint)
                took = [_until_visible(url, emitter) for _ in range(runs)]
                emitter.close()
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        figure(f"emit to visible in GET {name}", percentile(took, share) * 1000, "ms", runs=runs, rate="one at a time")


def _until_visible(url: str, emitter: runlake.Emitter) -> float:
    pause = threading.Event()
    begun = perf_counter()
    with runlake.track_run("bench", "freshness", emitter=emitter) as run:
        pass
    while True:
        try:
            with urllib.request.urlopen(f"{url}/api/v1/runs/{run.run_id}", timeout=10):
                return perf_counter() - begun
        except urllib.error.HTTPError as error:
            assert error.code == 404, error
        pause.wait(0.002)
