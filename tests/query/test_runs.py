"""`GET /api/v1/runs` and `GET /api/v1/runs/{run_id}`: shapes, every filter, and paging."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runlake.fields import DIMENSIONS, RUN_FIELD_NAMES
from runlake.messages import STATUS_ALIASES
from runlake_query.filters import SINGLE_FILTERS
from support.api import Api, Start, segment
from support.fleet import PASSED, Fleet
from support.lakes import LakeWriter, Worker, at

Run = dict[str, Any]
_MIDDLE = "2026-03-29T01:00:00Z"
_NAMES_AND_SUMMARIES = (
    "run_id", "agent_name", "job_type", "product", "product_family", "platform", "website", "subdomain",
    "website_section", "item_name", "insight_id", "input_summary", "output_summary", "error_summary",
)  # fmt: skip


def every_run(api: Api) -> list[Run]:
    runs: list[Run] = api.ok("/api/v1/runs", limit=1000)["runs"]
    return runs


def time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def says(text: str) -> Callable[[Run], bool]:
    return lambda run: any(text.lower() in (run[name] or "").lower() for name in _NAMES_AND_SUMMARIES)


def test_a_run_has_every_field_always(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    worker.start("bare", start_time="2026-01-28T10:30:00Z")
    worker.start("full", start_time="2026-01-28T11:30:00.120+01:00", end_time="2026-01-28T10:30:01.000001Z",
                 cost_usd="12.5", metrics_json={"a": [1, None, {"ü": 1.5}]}, items_failed=0)  # fmt: skip
    lake.flush(worker)
    _, api = start()
    bare, full = (api.ok(f"/api/v1/runs/{name}") for name in ("bare", "full"))
    assert tuple(bare) == tuple(full) == RUN_FIELD_NAMES
    assert bare["start_time"] == "2026-01-28T10:30:00Z"
    assert bare["end_time"] is bare["duration_ms"] is bare["cost_usd"] is bare["metrics_json"] is None
    assert (full["start_time"], full["end_time"]) == ("2026-01-28T10:30:00.12Z", "2026-01-28T10:30:01.000001Z")
    assert full["duration_ms"] == 880
    assert full["cost_usd"] == 12.5
    assert full["cost_source"] == "reported"
    assert full["metrics_json"] == {"a": [1, None, {"ü": 1.5}]}
    assert full["items_failed"] == 0
    assert (full["created_at"], full["updated_at"]) == ("2026-01-28T10:30:02Z", "2026-01-28T10:30:02Z")


def test_the_list_is_newest_start_first_and_ties_go_by_event_id(api: Api, fleet: Fleet) -> None:
    body = api.ok("/api/v1/runs", limit=1000)
    assert (body["total"], body["limit"], body["offset"], body["next_cursor"]) == (400, 1000, 0, None)
    keys = [(time(run["start_time"]), run["event_id"]) for run in body["runs"]]
    assert keys == sorted(keys, reverse=True)
    assert len({key[0] for key in keys}) < len(keys), "the fleet has runs that start together"
    assert len(api.ok("/api/v1/runs")["runs"]) == 100


@pytest.mark.parametrize("name", DIMENSIONS)
def test_a_dimension_filters_by_any_of_its_values(api: Api, name: str) -> None:
    runs = every_run(api)
    values = sorted({run[name] for run in runs} - {None})
    nobody = "failed" if name == "status" else "nobody"
    for wanted in (values[:1], values[:2], [*values, nobody], [nobody]):
        body = api.ok("/api/v1/runs", limit=1000, **{name: wanted})
        expected = [run for run in runs if run[name] in [STATUS_ALIASES.get(value, value) for value in wanted]]
        assert body["runs"] == expected
        assert body["total"] == len(expected)


FILTERS: dict[str, tuple[str, Callable[[Run], bool]]] = {
    "start_time_from": (_MIDDLE, lambda run: time(run["start_time"]) >= time(_MIDDLE)),
    "start_time_to": (_MIDDLE, lambda run: time(run["start_time"]) < time(_MIDDLE)),
    "created_after": (at(200), lambda run: time(run["created_at"]) > time(at(200))),
    "created_before": (at(200), lambda run: time(run["created_at"]) < time(at(200))),
    "min_duration_ms": ("1000", lambda run: run["duration_ms"] is not None and run["duration_ms"] >= 1000),
    "max_duration_ms": ("1000", lambda run: run["duration_ms"] is not None and run["duration_ms"] <= 1000),
    "q": ("STRASSE".replace("SS", "ß"), says("straße")),
    "stale": ("true", lambda run: run["status"] == "running" and run["heartbeat_until"] == PASSED),
    "root": ("true", lambda run: run["parent_run_id"] is None),
}


def test_every_filter_has_a_test_of_its_own() -> None:
    assert set(FILTERS) == set(SINGLE_FILTERS)


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_takes_what_it_says(api: Api, name: str) -> None:
    value, matches = FILTERS[name]
    runs = every_run(api)
    expected = [run for run in runs if matches(run)]
    assert 0 < len(expected) < len(runs)
    assert api.ok("/api/v1/runs", limit=1000, **{name: value})["runs"] == expected


@pytest.mark.parametrize("text", ["100%_of", "%", "_of", "crawl", "a,b", "run-1", "'; --", "nowhere to be found"])
def test_text_is_looked_for_as_it_is(api: Api, text: str) -> None:
    expected = [run for run in every_run(api) if says(text)(run)]
    assert api.ok("/api/v1/runs", limit=1000, q=text)["runs"] == expected


def test_filters_combine(api: Api) -> None:
    body = api.ok("/api/v1/runs", limit=1000, agent_name=["crawler", "Prüfer"], root="false", status="completed")
    expected = [
        run
        for run in every_run(api)
        if run["agent_name"] in ("crawler", "Prüfer") and run["parent_run_id"] and run["status"] == "success"
    ]
    assert expected
    assert body["runs"] == expected


@pytest.mark.parametrize(("alias", "status"), STATUS_ALIASES.items())
def test_a_status_may_be_given_by_its_alias(api: Api, alias: str, status: str) -> None:
    assert api.ok("/api/v1/runs", status=alias) == api.ok("/api/v1/runs", status=status)


def test_a_time_may_have_any_offset_even_with_a_plus_that_was_not_escaped(api: Api) -> None:
    expected = api.ok("/api/v1/runs", start_time_from=_MIDDLE)
    assert api.ok("/api/v1/runs", start_time_from="2026-03-29T03:00:00+02:00") == expected
    assert api.ok("/api/v1/runs?start_time_from=2026-03-29T03:00:00+02:00") == expected


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(20, 200), agents=st.sets(st.sampled_from(["crawler", "writer", "Prüfer", "a,b"])))
def test_pages_by_cursor_or_offset_are_the_whole_list(api: Api, limit: int, agents: set[str]) -> None:
    filters = {"agent_name": sorted(agents)} if agents else {}
    whole = api.ok("/api/v1/runs", limit=1000, **filters)
    by_cursor: list[Run] = []
    by_offset: list[Run] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.ok("/api/v1/runs", limit=limit, **filters, **cursor)
        assert page["total"] == whole["total"]
        assert page["runs"] == api.ok("/api/v1/runs", limit=limit, offset=len(by_offset), **filters)["runs"]
        by_cursor += page["runs"]
        by_offset += page["runs"]
        if page["next_cursor"] is None:
            break
        assert len(page["runs"]) == limit
        cursor = {"cursor": page["next_cursor"]}
    assert by_cursor == whole["runs"]


def test_a_cursor_neither_skips_nor_repeats_while_runs_arrive(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    for number in range(10):
        worker.start(f"old-{number}", start_time=at(number))
    lake.flush(worker)
    _, api = start()
    page = api.ok("/api/v1/runs", limit=4)
    seen = page["runs"]
    while page["next_cursor"]:
        worker.start(f"new-{worker.seq}", start_time=at(1000 + worker.seq))
        lake.flush(worker)
        page = api.ok("/api/v1/runs", limit=4, cursor=page["next_cursor"], after=f"{worker.id}:{worker.seq}")
        seen += page["runs"]
    assert [run["run_id"] for run in seen] == [f"old-{number}" for number in reversed(range(10))]


STRANGE = [
    "a/b", "a//b/", "x:y", "100%", "%2F", "a%252Fb", "two words", "plus+plus", "q?x=1#y", "ünï©ode/日本",
    "'\"\\", "a\nb",
    "events", "..%2f..", "~", "a;b", "{run_id}", "...",
]  # fmt: skip


def test_run_ids_of_every_kind_work_in_a_path(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    keys = {run_id: worker.start(run_id) for run_id in STRANGE}
    for run_id, key in keys.items():
        worker.event(run_id, key)
    lake.flush(worker)
    _, api = start()
    for run_id, key in keys.items():
        assert api.ok(f"/api/v1/runs/{segment(run_id)}")["event_id"] == str(key), run_id
        (event,) = api.ok(f"/api/v1/runs/{segment(run_id)}/events")
        assert event["run_id"] == run_id
        reply = api.get(f"/api/v1/runs/{segment(run_id + '!')}")
        assert (reply.status, reply.json["detail"]) == (404, f"Run not found: {run_id}!")


def test_a_run_id_means_the_most_recently_created_run_of_that_name(lake: LakeWriter, start: Start) -> None:
    first, second = Worker(), Worker()
    early = first.start("same", start_time=at(500))
    second.start("another")
    late = second.start("same", start_time=at(1))
    lake.flush(first, second)
    _, api = start()
    assert api.ok("/api/v1/runs/same")["event_id"] == str(late)
    for key in (early, late):
        assert api.ok(f"/api/v1/runs/{key}")["event_id"] == str(key)
        assert api.ok(f"/api/v1/runs/{str(key).upper()}")["event_id"] == str(key)


def test_a_run_id_that_is_the_event_id_of_another_run_means_the_run_of_that_name(
    lake: LakeWriter, start: Start
) -> None:
    worker = Worker()
    other = worker.start("other")
    named = worker.start(str(other))
    lake.flush(worker)
    _, api = start()
    assert api.ok(f"/api/v1/runs/{other}")["event_id"] == str(named)


def test_an_unknown_run_is_not_found_by_name_or_event_id(api: Api) -> None:
    for name in ("nobody", str(uuid4())):
        for tail in ("", "/events"):
            reply = api.get(f"/api/v1/runs/{quote(name)}{tail}")
            assert (reply.status, reply.json["detail"]) == (404, f"Run not found: {name}")
