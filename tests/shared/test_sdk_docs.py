"""The examples of docs/sdk.md run as they are written, against a real worker, and record what they show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.api import Api
from support.processes import Site
from support.waiting import eventually

_TEXT = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text("utf-8")
_EXAMPLES = re.findall(r"^```python\n(.*?)^```$", _TEXT, re.MULTILINE | re.DOTALL)
_RUNS = 15
"""How many runs the examples are."""
_RUN_ALL = """
import sys
for number, code in enumerate(sys.stdin.read().split("\\0"), 1):
    exec(compile(code, f"example {number}", "exec"), {"__name__": "__main__"})
import runlake
assert runlake.flush(30), runlake.stats()
assert not runlake.stats().rejected, runlake.stats()
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A query process, after all examples were run."""
    site = Site(tmp_path_factory.mktemp("docs"))
    environment = {**os.environ, "RUNLAKE_INGEST": site.ingest_endpoint, "RUNLAKE_SPOOL": "off"}
    with site.ingest():
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", _RUN_ALL], input="\0".join(_EXAMPLES),
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        query, url = site.query()
        with query:
            api = Api(url)
            eventually(lambda: api.ok("/api/v1/runs")["total"] == _RUNS)
            eventually(lambda: api.ok("/api/v1/runs", status="running")["total"] == 0)
            yield api
            api.close()


def _runs(api: Api, agent_name: str) -> dict[str, dict[str, Any]]:
    found = api.ok("/api/v1/runs", agent_name=agent_name)["runs"]
    return {run["job_type"] if run["item_name"] is None else run["item_name"]: run for run in found}


def _events(api: Api, run: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(event["type"], event["payload"]) for event in api.ok(f"/api/v1/runs/{run['event_id']}/events")]


def test_every_run_of_the_examples_ended_well(api: Api) -> None:
    assert len(_EXAMPLES) >= 8
    runs = api.ok("/api/v1/runs", limit=1000)["runs"]
    assert {run["status"] for run in runs} == {"success"}
    assert len(runs) == _RUNS


def test_decorated_functions_are_runs_with_their_events(api: Api) -> None:
    runs = _runs(api, "crawler")
    assert {"crawl", "fetch", "list"} <= set(runs)
    assert _events(api, runs["fetch"]) == [("request", {"url": "/"})]


def test_threads_and_executors_are_below_the_run_they_were_started_in(api: Api) -> None:
    plan = _runs(api, "planner")["plan"]["run_id"]
    workers = _runs(api, "worker")
    assert set(workers) == {"a thread", "one", "two", "by hand"}
    assert {run["parent_run_id"] for run in workers.values()} == {plan}


def test_a_child_process_and_a_service_are_below_their_caller(api: Api) -> None:
    launcher = _runs(api, "launcher")["launch"]
    below = [_runs(api, "script")["part"], _runs(api, "service")["serve"]]
    assert {run["parent_run_id"] for run in below} == {launcher["run_id"]}
    assert {run["trace_id"] for run in [launcher, *below]} == {launcher["event_id"].replace("-", "")}


def test_a_call_of_a_model_is_in_the_runs_totals_once(api: Api) -> None:
    run = _runs(api, "writer")["draft"]
    tokens = [run[name] for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")]
    assert tokens == [300, 100, 600, None]
    assert (run["model"], run["provider"], float(run["cost_usd"])) == ("some-model", "openai", 0.0031)
    ((kind, payload),) = _events(api, run)
    assert kind == "llm_call"
    assert payload["gen_ai.usage.input_tokens"] == 900


def test_logs_and_heartbeats_arrive(api: Api) -> None:
    runs = api.ok("/api/v1/runs", agent_name="crawler", job_type="crawl")["runs"]
    logged = [payload for run in runs for kind, payload in _events(api, run) if kind == "log"]
    assert logged == [{"level": "WARNING", "logger": "crawler", "message": "slow: /index"}]
    assert sum(run["heartbeat_until"] is not None for run in runs) == 1
