"""`GET /api/v1/runs?order_by=`: the whole list is sorted, and paged without loss, whatever it is sorted by."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from runlake_query.runorder import COLUMNS
from support.api import Api
from support.contract import problem

Run = dict[str, Any]
RUNS = "/api/v1/runs"


def wanted(runs: list[Run], column: str, *, descends: bool) -> list[str]:
    """The event_ids as they should come: nulls last, ties by the newest start."""

    def value(run: Run) -> Any:
        return datetime.fromisoformat(run[column]) if COLUMNS[column] == "TIMESTAMPTZ" else run[column]

    newest = sorted(runs, key=lambda run: (datetime.fromisoformat(run["start_time"]), run["event_id"]), reverse=True)
    told = sorted((run for run in newest if run[column] is not None), key=value, reverse=descends)
    return [run["event_id"] for run in (*told, *(run for run in newest if run[column] is None))]


@pytest.mark.parametrize("column", list(COLUMNS))
def test_a_list_is_sorted_by_any_column_both_ways_over_all_its_pages(api: Api, column: str) -> None:
    everything = api.ok(RUNS, limit=1000)["runs"]
    for descends in (False, True):
        word = f"{'-' if descends else ''}{column}"
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = api.ok(RUNS, order_by=word, limit=150, **cursor)
            assert page["total"] == len(everything)
            found += [run["event_id"] for run in page["runs"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert found == wanted(everything, column, descends=descends)


def test_filters_and_offsets_hold_in_any_order(api: Api) -> None:
    listed = api.ok(RUNS, agent_name="writer", limit=1000)["runs"]
    sorted_ids = wanted(listed, "duration_ms", descends=True)
    page = api.ok(RUNS, agent_name="writer", order_by="-duration_ms", limit=5, offset=3)
    assert [run["event_id"] for run in page["runs"]] == sorted_ids[3:8]


def test_the_newest_first_is_the_order_without_one(api: Api) -> None:
    assert api.ok(RUNS, order_by="-start_time", limit=20) == api.ok(RUNS, limit=20)


def test_what_cannot_be_sorted_by_or_gone_on_from_is_refused(api: Api) -> None:
    assert "agent_name" in problem(api.get(RUNS, order_by="agent_nam"), 400)["detail"]
    problem(api.get(RUNS, order_by="-error_details"), 400)
    cursor = api.ok(RUNS, order_by="host", limit=1)["next_cursor"]
    wrong: list[dict[str, Any]] = [{"order_by": "-host"}, {}, {"order_by": "host", "offset": 1}]
    for query in wrong:
        problem(api.get(RUNS, cursor=cursor, **query), 400)
    problem(api.get(RUNS, order_by="host", format="csv"), 400)
