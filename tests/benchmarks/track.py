"""What `track_run` costs on the agent's thread: a whole run, and the parts that agents call often."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

import runlake
from benchmarks.figures import figure, percentile
from support.processes import Site

_USAGE = {"prompt_tokens": 900, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 600}}


def run(short: bool) -> None:
    calls = 500 if short else 10_000
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.ingest():
            emitter = runlake.Emitter(endpoint=site.ingest_endpoint, spool=f"{folder}/spool")

            def whole() -> None:
                with runlake.track_run("bench", "bench", emitter=emitter) as run:
                    run.event("step", {"text": "x" * 100})

            @runlake.track_run("bench", "decorated", emitter=emitter)
            def decorated() -> None:
                pass

            _measure("track_run with one event", whole, calls)
            _measure("track_run with one event and six fields", lambda: _with_fields(emitter), calls)
            _measure("decorated call", decorated, calls)
            with runlake.track_run("bench", "bench", emitter=emitter, heartbeat=30) as run:
                _measure("run.event", lambda: run.event("step", n=1, text="x" * 100), calls)
                _measure("run.event with a set, a time and a UUID", lambda: _odd(run), calls)
                _measure("run.update", lambda: run.update(items_succeeded=1), calls)
                _measure("run.progress", lambda: run.progress(1, 2), calls)
                _measure("run.llm_call", lambda: run.llm_call("m", "p", usage=_USAGE, prompt="x" * 1_000), calls)
            emitter.close(5)


def _with_fields(emitter: runlake.Emitter) -> None:
    with runlake.track_run(
        "bench", "bench", emitter=emitter, website="example.org", product="p", item_name="i", environment="e",
        items_discovered=3, metrics_json={"a": 1},
    ) as run:  # fmt: skip
        run.event("step", {"text": "x" * 100})


def _odd(run: runlake.Run) -> None:
    run.event("odd", {"set": {1, 2}, "at": run.event_id, "path": Path("/a")})


def _measure(name: str, call: Callable[[], None], calls: int) -> None:
    breath = threading.Event()
    costs: list[int] = []
    for number in range(calls):
        begun = perf_counter_ns()
        call()
        costs.append(perf_counter_ns() - begun)
        if number % 50 == 0:
            breath.wait(0.002)  # an agent does something between its runs
    for share, which in ((0.5, "p50"), (0.99, "p99")):
        figure(f"{name} {which}", percentile(costs, share) / 1000, "us", calls=calls)
