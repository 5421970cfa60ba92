"""`?format=sql`: the SELECT of a list or a rollup says what the list or the rollup says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.api import Api
from support.contract import problem
from support.fleet import make_fleet
from support.lakes import LakeWriter
from support.processes import Site

Query = dict[str, Any]
ALL_BUT = "runs,running,success,failure,partial,timeout,cancelled,success_rate,avg_duration_ms,p99_duration_ms"
RANGE = {"start_time_from": "2026-03-27T05:00:00Z", "start_time_to": "2026-03-31T00:00:00Z"}
HOSTILE = "x' OR 'a' = 'a' -- $agent_name_0"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    site = Site(tmp_path_factory.mktemp("statements"))
    with LakeWriter(site.data) as writer:
        make_fleet(writer)
        process, url = site.query("--sql", "on", "--sql-timeout-ms", "60000")
        with process:
            api = Api(url)
            yield api
            api.close()


def statement(api: Api, path: str, query: Query) -> str:
    reply = api.get(path, format="sql", **query)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/sql; charset=utf-8"), reply.text
    return reply.text


def ask(api: Api, sql: str) -> list[dict[str, Any]]:
    reply = api.post("/api/v1/sql", {"sql": sql})
    assert reply.status == 200, f"{reply.text}\n{sql}"
    rows: list[dict[str, Any]] = reply.json["rows"]
    return rows


def close(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sums of floats depend on their order in the last digit."""
    return [
        {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()} for row in rows
    ]


@pytest.mark.parametrize(
    "query",
    [
        {"measures": ALL_BUT},
        {"group_by": "agent_name", "measures": "runs,success_rate,p95_duration_ms,cost_usd,input_tokens"},
        {"group_by": "product,status", "order_by": "-runs,product", "limit": 4, "measures": "runs,last_start_time"},
        {"bucket": "hour", "tz": "Europe/Berlin", "measures": ALL_BUT},
        {"bucket": "day", "tz": "Asia/Kolkata", "group_by": "model", "measures": "runs,items_failed"},
        {"group_by": "host", "q": "100%_of", "status": ["failed", "success"], "min_duration_ms": 1, "root": "true"},
        {"group_by": "host", "agent_name": ["a,b", HOSTILE], **RANGE, "measures": "runs"},
    ],
)  # fmt: skip
def test_the_sql_of_a_rollup_gives_its_rows(served: Api, query: Query) -> None:
    rows = served.ok("/api/v1/rollups", **query)["rows"]
    assert rows
    found = ask(served, statement(served, "/api/v1/rollups", query))
    names = set(found[0])
    assert names >= set(rows[0]) - {"events", "stale"}
    assert close(found) == close([{name: row[name] for name in row if name in names} for row in rows])


@pytest.mark.parametrize("query", [{}, {"limit": 7, "order_by": "-duration_ms"}, {"agent_name": "Prüfer", **RANGE}])
def test_the_sql_of_a_list_gives_its_runs(served: Api, query: Query) -> None:
    rows = ask(served, statement(served, "/api/v1/runs", query))
    listed = served.ok("/api/v1/runs", **query)["runs"]
    assert [row["event_id"] for row in rows] == [run["event_id"] for run in listed]
    assert rows


def test_a_value_is_never_sql(served: Api) -> None:
    text = statement(served, "/api/v1/runs", {"agent_name": HOSTILE})
    assert "'x'' OR ''a'' = ''a'' -- $agent_name_0'" in text
    assert ask(served, text) == []


def test_what_the_view_does_not_have_is_refused(served: Api) -> None:
    wrong: list[Query] = [
        {"measures": "runs,events"},
        {"measures": "stale"},
        {"stale": "true"},
        {"group_by": "nothing"},
    ]
    for query in wrong:
        problem(served.get("/api/v1/rollups", format="sql", **query), 400)
    problem(served.get("/api/v1/runs", format="sql", offset="1"), 400)
