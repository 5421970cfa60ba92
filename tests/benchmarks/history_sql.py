"""How much hostile SQL slows everybody else: the same GET alone, and beside as many statements as may run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from benchmarks.figures import figure, percentile
from support.api import Api

_STATEMENTS_AT_ONCE = 2
_SLOWEST_S = 120.0
_HOSTILE = {
    "a cross join": "SELECT count(*) FROM runs a, runs b, runs c WHERE a.duration_ms + b.duration_ms = c.duration_ms",
    "a sort that does not fit": "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY hash(a.range)) AS n FROM"
    " range(1000000000) AS a)",
}


def measure_hostile_sql(api: Api, runs: int, times: int) -> None:
    """Latencies of a run and of a rollup, without and with two hostile statements that do not end by themselves."""
    newest = api.ok("/api/v1/runs", limit=1000)["runs"]
    ids = [run["event_id"] for run in newest]
    statement = api.post("/api/v1/sql", {"sql": "SELECT count(*) AS runs FROM runs"})
    assert statement.status == 200, statement.text
    for run in ids:
        api.ok(f"/api/v1/runs/{run}")  # from memory, from now on
    _measure(api, ids, runs, times, "alone")
    for what, sql in _HOSTILE.items():
        with _hostile(api.url, sql):
            _measure(api, ids, runs, times, f"beside {what}")


def _measure(api: Api, ids: list[str], runs: int, times: int, how: str) -> None:
    for name, paths in {
        "GET of a run": [f"/api/v1/runs/{run}" for run in ids[: 50 * times]],
        "rollup by job type": ["/api/v1/rollups?group_by=job_type&measures=runs,success_rate"] * times,
    }.items():
        took = []
        for path in paths:
            begun = perf_counter()
            api.ok(path)
            took.append(perf_counter() - begun)
        for share, called in ((0.5, "p50"), (0.99, "p99")):
            figure(f"{name}, {how}, {called}", percentile(took, share) * 1000, "ms", runs=runs, answers=len(took))


@contextmanager
def _hostile(url: str, sql: str) -> Iterator[None]:
    """Have as many of these statements run as may, for as long as the block does."""
    over = threading.Event()

    def ask() -> None:
        api = Api(url)
        while not over.is_set():
            assert api.post("/api/v1/sql", {"sql": sql}).status in (400, 503)
        api.close()

    threads = [threading.Thread(target=ask) for _ in range(_STATEMENTS_AT_ONCE)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(_SLOWEST_S)
