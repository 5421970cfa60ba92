"""Questions over a long history: 1 and 10 million runs made from a seed (short: 20 thousand), asked of a query process.

The lake is written by DuckDB in one go; the query process folds it (cold), is stopped, and starts again (warm). What it
does for itself then is waited for. Answers are over HTTP on one connection, each question in several forms so that
nothing is answered from a cache of answers; the first one, for which the file may have to be read, is a figure of its
own. Then everything is exported, and asked again while hostile SQL runs.

`HISTORY_LAKES=FOLDER` keeps the lakes there, and measures those that are there already; `HISTORY_RUNS=1000000` names
the sizes, separated by commas.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any

from benchmarks.figures import figure, percentile
from benchmarks.history_exports import measure_exports
from benchmarks.history_site import history_site
from benchmarks.history_sql import measure_hostile_sql
from benchmarks.memory import peak_mib
from benchmarks.processor import wait_until_idle
from support.api import Api, segment
from support.processes import Process, Site

RUNS = (1_000_000, 10_000_000)
_DEADLINE_S = 1_800.0
_PERCENTILES = "runs,p50_duration_ms,p95_duration_ms,p99_duration_ms"


def run(short: bool) -> None:
    sizes = [int(size) for size in os.environ.get("HISTORY_RUNS", "").split(",") if size]
    for runs in sizes or ((20_000,) if short else RUNS):
        measure(runs, times=3 if short else 15)


def measure(runs: int, times: int) -> None:
    """All figures of one size of history."""
    with history_site(runs) as (site, end):
        with _Started(site, "cold", runs) as (query, _):
            assert query.terminate() == 0
        with _Started(site, "warm", runs) as (query, api):
            wait_until_idle(query)
            _ask(api, end, runs, times)
            figure("query process, highest RSS", peak_mib(query), "MiB", runs=runs)
            measure_exports(query, api.url, runs)
            measure_hostile_sql(api, runs, times)
            assert query.terminate() == 0


class _Started:
    """A query process from its start until it has caught up, which is a figure."""

    def __init__(self, site: Site, how: str, runs: int) -> None:
        begun = perf_counter()
        self._process, url = site.query("--sql", "on", "--sql-timeout-ms", "3000", caught_up=False)
        self._process.wait_for("caught_up", _DEADLINE_S)
        figure(f"history start {how}", perf_counter() - begun, "s", runs=runs)
        figure(f"history RSS after start {how}", peak_mib(self._process), "MiB", runs=runs)
        self._api = Api(url)

    def __enter__(self) -> tuple[Process, Api]:
        return self._process, self._api

    def __exit__(self, *_: object) -> None:
        self._api.close()
        self._process.kill()


def _ask(api: Api, end: datetime, runs: int, times: int) -> None:
    newest = api.ok("/api/v1/runs", limit=1000)["runs"]
    agents = sorted({run["agent_name"] for run in newest})
    roots = [run for run in newest if run["parent_run_id"] is None]
    commits = sorted({run["commit_hash"] for run in newest if run["commit_hash"]})
    day = (end - timedelta(hours=24)).isoformat()
    rollups, lists = "/api/v1/rollups", "/api/v1/runs"
    questions: dict[str, Callable[[int], Any]] = {
        "rollup by agent with percentiles": lambda _: api.ok(rollups, group_by="agent_name", measures=_PERCENTILES),
        "rollup by agent": lambda _: api.ok(rollups, group_by="agent_name"),
        "rollup of 24 h by hour and job type": lambda _: api.ok(
            rollups, group_by="job_type", bucket="hour", start_time_from=day
        ),
        "newest page, agent and success": lambda n: api.ok(lists, agent_name=_of(agents, n), status="success"),
        "newest page, agent and failure": lambda n: api.ok(lists, agent_name=_of(agents, n), status="failure"),
        "newest page, known total": lambda _: api.ok(lists, agent_name=agents[0], status="success"),
        "last page by cursor": _last_page(api, agents[0], end - timedelta(days=170)),
        "tree of a run": lambda n: api.ok(f"{lists}/{segment(_of(roots, n)['run_id'])}/tree"),
        "commits of a run": lambda n: api.ok(f"{lists}/{segment(_of(newest, n)['run_id'])}/commits"),
        "events of a run": lambda n: api.ok(f"{lists}/{segment(_of(newest, n)['run_id'])}/events"),
        "history of a run": lambda n: api.ok(f"{lists}/{segment(_of(newest, n)['run_id'])}/history"),
        "runs of a commit": lambda n: api.ok(f"/api/v1/commits/{_of(commits, n)[:9]}/runs"),
    }
    for name, ask in questions.items():
        first, *took = _timed(ask, times + 1)
        figure(f"{name}, the first", first * 1000, "ms", runs=runs)
        for share, called in ((0.5, "p50"), (0.95, "p95")):
            figure(f"{name} {called}", percentile(took, share) * 1000, "ms", runs=runs, answers=times)


def _of(items: Sequence[Any], number: int) -> Any:
    return items[number % len(items)]


def _timed(ask: Callable[[int], Any], times: int) -> Iterator[float]:
    for number in range(times):
        begun = perf_counter()
        ask(number)
        yield perf_counter() - begun


def _last_page(api: Api, agent: str, until: datetime) -> Callable[[int], Any]:
    """A page near the end of a long list, reached by its cursor."""
    page = api.ok("/api/v1/runs", agent_name=agent, start_time_to=until.isoformat())
    cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
    return lambda _: api.ok("/api/v1/runs", agent_name=agent, **cursor)
