"""Rollups against a computation in Python that is slow and plainly right."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from runlake.fields import DIMENSIONS
from runlake_query.rollups import DEFAULT_MEASURES, MEASURES
from support.api import Api, Start
from support.fleet import CHOICES, DAYS, FIRST, PASSED, Fleet
from support.lakes import LakeWriter, Worker, at

Run = dict[str, Any]
Key = tuple[Any, ...]
_SUMS = (
    "items_discovered", "items_succeeded", "items_failed", "items_skipped", "input_tokens", "output_tokens",
    "cache_read_tokens", "cache_write_tokens",
)  # fmt: skip
_FINISHED = ("success", "failure", "partial", "timeout", "cancelled")


def percentile(values: list[int], part: float) -> float | None:
    """Between the two nearest values, in proportion."""
    if not values:
        return None
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def measured(runs: list[Run], events: dict[str, int]) -> dict[str, Any]:
    """Every measure of some runs."""
    durations = [run["duration_ms"] for run in runs if run["duration_ms"] is not None]
    statuses = [run["status"] for run in runs]
    finished = sum(status in _FINISHED for status in statuses)
    starts = [run["start_time"] for run in sorted(runs, key=lambda run: datetime.fromisoformat(run["start_time"]))]
    return {
        "runs": len(runs),
        **{status: statuses.count(status) for status in ("running", *_FINISHED)},
        "stale": sum(run["status"] == "running" and run["heartbeat_until"] == PASSED for run in runs),
        "success_rate": statuses.count("success") / finished if finished else None,
        "avg_duration_ms": sum(durations) / len(durations) if durations else None,
        **{f"p{part}_duration_ms": percentile(durations, part / 100) for part in (50, 90, 95, 99)},
        "max_duration_ms": max(durations, default=None),
        **{name: sum(run[name] or 0 for run in runs) for name in _SUMS},
        "cost_usd": sum(run["cost_usd"] or 0 for run in runs),
        "events": sum(events[run["event_id"]] for run in runs),
        "first_start_time": starts[0] if starts else None,
        "last_start_time": starts[-1] if starts else None,
    }


def bucket_of(time: datetime, bucket: str, zone: ZoneInfo) -> datetime:
    """The start of the bucket that a time falls in."""
    local = time.astimezone(zone)
    match bucket:
        case "minute":
            return time.replace(second=0, microsecond=0)
        case "hour":
            return time - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        case "day":
            day = local.date()
        case "week":
            day = local.date() - timedelta(days=local.weekday())
        case _:
            day = local.date().replace(day=1)
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def grouped(runs: list[Run], dimensions: list[str], bucket: str | None, zone: str) -> dict[Key, list[Run]]:
    groups: dict[Key, list[Run]] = defaultdict(list)
    for run in runs:
        key: Key = tuple(run[name] for name in dimensions)
        if bucket:
            key += (bucket_of(datetime.fromisoformat(run["start_time"]), bucket, ZoneInfo(zone)),)
        groups[key].append(run)
    return groups


def keys_of(row: dict[str, Any], dimensions: list[str], bucket: str | None) -> Key:
    key = tuple(row[name] for name in dimensions)
    return (*key, datetime.fromisoformat(row["bucket"])) if bucket else key


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return all(found[name] == pytest.approx(value, rel=1e-12) if isinstance(value, float) else found[name] == value
               for name, value in expected.items())  # fmt: skip


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    """Some of the filters, with values that some runs have."""
    found: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(DIMENSIONS), max_size=2, unique=True)):
        values = sorted({value for value in CHOICES.get(name, []) if value is not None})
        found[name] = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)) if values else ["x"]
    days = st.integers(-1, DAYS + 1).map(lambda day: (FIRST + timedelta(days=day)).isoformat())
    more = {
        "start_time_from": days, "start_time_to": days, "created_after": st.integers(0, 250).map(at),
        "created_before": st.integers(0, 250).map(at), "min_duration_ms": st.sampled_from([1, 250]),
        "max_duration_ms": st.sampled_from([250, 60_000]), "q": st.sampled_from(["straße", "100%_of", "crawl"]),
        "root": st.sampled_from(["true", "false"]),
    }  # fmt: skip
    for name in draw(st.lists(st.sampled_from(sorted(more)), max_size=2, unique=True)):
        found[name] = draw(more[name])
    return found


def passes(run: Run, filters: dict[str, Any]) -> bool:
    """Whether a run matches, the slow way."""

    def one(name: str, value: Any) -> bool:
        match name:
            case "start_time_from":
                return datetime.fromisoformat(run["start_time"]) >= datetime.fromisoformat(value)
            case "start_time_to":
                return datetime.fromisoformat(run["start_time"]) < datetime.fromisoformat(value)
            case "created_after":
                return datetime.fromisoformat(run["created_at"]) > datetime.fromisoformat(value)
            case "created_before":
                return datetime.fromisoformat(run["created_at"]) < datetime.fromisoformat(value)
            case "min_duration_ms":
                return run["duration_ms"] is not None and run["duration_ms"] >= value
            case "max_duration_ms":
                return run["duration_ms"] is not None and run["duration_ms"] <= value
            case "q":
                texts = ("run_id", "agent_name", "input_summary", "error_summary")
                return any(value.lower() in (run[text] or "").lower() for text in texts)
            case "root":
                return bool((run["parent_run_id"] is None) == (value == "true"))
            case "stale":
                stale = run["status"] == "running" and run["heartbeat_until"] == PASSED
                return bool(stale == (value == "true"))
        return bool(run[name] in value)

    return all(one(name, value) for name, value in filters.items())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dimensions=st.lists(st.sampled_from(DIMENSIONS), max_size=4, unique=True),
    bucket=st.sampled_from([None, "minute", "hour", "day", "week", "month"]),
    zone=st.sampled_from(
        ["UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Asia/Kathmandu", "Asia/Kolkata", "Pacific/Chatham"]
    ),
    wanted=filters(),
)
def test_a_rollup_equals_the_same_sums_in_python(
    api: Api, fleet: Fleet, dimensions: list[str], bucket: str | None, zone: str, wanted: dict[str, Any]
) -> None:
    """Every dimension, measure, filter, bucket and zone. NULL is a group like others, and adds nothing to a sum."""
    both = {"start_time_from", "start_time_to"} <= wanted.keys()
    assume(not both)  # then empty buckets are filled in, which tests of their own show
    compare(api, fleet, dimensions, bucket, zone, wanted)


@pytest.mark.parametrize("name", DIMENSIONS)
def test_each_dimension_groups_and_filters_as_python_does(api: Api, fleet: Fleet, name: str) -> None:
    compare(api, fleet, [name], None, "UTC", {})
    values = [value for value in CHOICES.get(name, []) if value is not None]
    compare(api, fleet, ["status"], "week", "Europe/Berlin", {name: sorted(set(values))[:2] or ["x"]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("start_time_from", "2026-03-27T12:00:00+01:00"), ("start_time_to", "2026-03-27T12:00:00+01:00"),
        ("created_after", at(200)), ("created_before", at(200)), ("min_duration_ms", 250), ("max_duration_ms", 250),
        ("q", "straße"), ("root", "true"), ("root", "false"), ("stale", "true"), ("stale", "false"),
    ],
)  # fmt: skip
def test_each_filter_leaves_the_runs_that_python_does(api: Api, fleet: Fleet, name: str, value: Any) -> None:
    compare(api, fleet, ["agent_name"], "day", "Asia/Kathmandu", {name: value})


def compare(
    api: Api, fleet: Fleet, dimensions: list[str], bucket: str | None, zone: str, wanted: dict[str, Any]
) -> None:
    """The list of runs, and a rollup of all measures, are what Python makes of the same runs."""
    every = api.ok("/api/v1/runs", limit=1000)["runs"]
    runs = [run for run in every if passes(run, wanted)]
    assert api.ok("/api/v1/runs", limit=1000, **wanted)["runs"] == runs
    asked = {"group_by": ",".join(dimensions), "measures": ",".join(MEASURES), "tz": zone, "limit": 1000}
    body = api.ok("/api/v1/rollups", **asked, **({"bucket": bucket} if bucket else {}), **wanted)
    expected = grouped(runs, dimensions, bucket, zone)
    found = {keys_of(row, dimensions, bucket): row for row in body["rows"]}
    assert len(found) == len(body["rows"])
    assert found.keys() == expected.keys() or (not dimensions and not bucket and not runs)
    for key, members in expected.items():
        assert same(found[key], measured(members, fleet.events)), key
    assert same(body["totals"], measured(runs, fleet.events))
    assert (body["group_by"], body["bucket"], body["truncated"]) == (dimensions, bucket, False)
    assert body["position"] == ",".join(sorted(fleet.position.split(",")))


def test_groups_without_a_value_come_last_in_any_order(api: Api) -> None:
    for order in ("product", "-product"):
        rows = api.ok("/api/v1/rollups", group_by="product", order_by=order)["rows"]
        assert [row["product"] is None for row in rows] == [False, False, True]


def test_a_measure_is_one_entry_of_the_sql_file_and_a_dimension_one_name(api: Api) -> None:
    source = files("runlake_query").joinpath("measures.sql").read_text("utf-8")
    assert re.findall(r"^-- name: (\w+)$", source, re.MULTILINE) == list(MEASURES)
    answer = api.ok("/api/v1/rollups", measures=",".join(MEASURES))
    assert tuple(answer["totals"]) == tuple(MEASURES)
    for name in DIMENSIONS:
        assert api.ok("/api/v1/rollups", group_by=name)["group_by"] == [name]


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_the_same_whatever_else_is_asked(api: Api, name: str) -> None:
    ends = {"start_time_from": "2026-03-23T00:00:00Z", "start_time_to": "2026-03-29T00:00:00Z"}
    questions: tuple[dict[str, Any], ...] = (
        {}, {"group_by": "agent_name"}, {"bucket": "day"}, {"bucket": "day", **ends},
        {"group_by": "status", "bucket": "day", **ends}, {"group_by": "agent_name", "host": "nobody's"},
        {"bucket": "day", **ends, "host": "nobody's"}, {"host": "nobody's"},
    )  # fmt: skip
    for asked in questions:
        keys = [asked[key] if key == "group_by" else "bucket" for key in ("group_by", "bucket") if key in asked]
        ordered = {**asked, "order_by": ",".join(keys), "limit": 1000} if keys else asked
        alone = api.ok("/api/v1/rollups", **ordered, measures=name)
        beside = api.ok("/api/v1/rollups", **ordered, measures=",".join(MEASURES))
        wanted = [{key: row[key] for key in (*keys, name)} for row in beside["rows"]]
        assert (alone["rows"], alone["totals"]) == (wanted, {name: beside["totals"][name]}), asked
        exported = api.get("/api/v1/rollups", **asked, measures=name, format="ndjson").text.splitlines()
        assert sorted(map(str, map(json.loads, exported))) == sorted(map(str, wanted)), asked


@pytest.mark.parametrize("path", ["/api/v1/runs", "/api/v1/rollups"])
def test_limits_are_those_that_are_documented(api: Api, path: str) -> None:
    (limit,) = (one for one in api.ok("/openapi.json")["paths"][path]["get"]["parameters"] if one["name"] == "limit")
    low, high = limit["schema"]["minimum"], limit["schema"]["maximum"]
    statuses = [api.get(path, limit=value).status for value in (low - 1, low, high, high + 1)]
    assert (low, high, statuses) == (1, 1000, [400, 200, 200, 400])


def test_days_of_berlin_in_the_week_of_the_clock_change(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    edges = [
        "2026-03-28T22:59:59.999999Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z", "2026-03-29T22:00:00Z",
        "2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z",
    ]  # fmt: skip
    for edge in edges:
        worker.start("r", start_time=edge)
    lake.flush(worker)
    _, api = start()

    def days(first: str, end: str) -> list[tuple[str, int]]:
        body = api.ok("/api/v1/rollups", bucket="day", tz="Europe/Berlin", measures="runs",
                      start_time_from=first, start_time_to=end)  # fmt: skip
        return [(row["bucket"], row["runs"]) for row in body["rows"]]

    assert days("2026-03-27T23:00:00Z", "2026-03-30T22:00:00Z") == [
        ("2026-03-27T23:00:00Z", 1), ("2026-03-28T23:00:00Z", 2), ("2026-03-29T22:00:00Z", 1),
    ]  # fmt: skip
    assert days("2026-10-23T22:00:00Z", "2026-10-26T23:00:00Z") == [
        ("2026-10-23T22:00:00Z", 1), ("2026-10-24T22:00:00Z", 2), ("2026-10-25T23:00:00Z", 1),
    ]  # fmt: skip
    hours = api.ok("/api/v1/rollups", bucket="hour", tz="Europe/Berlin", measures="runs",
                   start_time_from="2026-10-24T22:00:00Z", start_time_to="2026-10-25T23:00:00Z")["rows"]  # fmt: skip
    assert len(hours) == 25, "the hour that comes twice is two buckets"


def test_hours_of_a_zone_that_shifts_by_half_an_hour_lose_no_run(lake: LakeWriter, start: Start) -> None:
    """Lord Howe Island sets its clocks back by thirty minutes."""
    worker = Worker()
    for minute in range(0, 360, 10):
        at = datetime(2026, 4, 4, 12, tzinfo=UTC) + timedelta(minutes=minute)
        worker.start("r", start_time=at.isoformat())
    lake.flush(worker)
    _, api = start()
    asked = {
        "bucket": "hour",
        "tz": "Australia/Lord_Howe",
        "measures": "runs",
        "start_time_from": "2026-04-04T12:00:00Z",
    }
    some = api.ok("/api/v1/rollups", **asked)
    every = api.ok("/api/v1/rollups", **asked, start_time_to="2026-04-04T18:00:00Z")
    assert every["rows"] == some["rows"]
    assert [row["runs"] for row in every["rows"]] == [6, 6, 6, 3, 6, 6, 3]


@pytest.mark.parametrize(
    ("zone", "shift"),
    [
        ("America/St_Johns", "1990-10-28T02:31:00Z"),  # back from 00:01: midnight comes twice, the second one is meant
        ("America/St_Johns", "1990-04-01T03:31:00Z"),
        ("Africa/Monrovia", "1972-01-07T00:44:30Z"),  # from -00:44:30 to 0
        ("Asia/Kathmandu", "1985-12-31T18:30:00Z"),  # from +05:30 to +05:45
        ("Pacific/Apia", "2011-12-30T10:00:00Z"),  # a day is left out
    ],
)
def test_buckets_begin_where_the_zone_says_also_beside_any_quarter_of_an_hour(
    lake: LakeWriter, start: Start, zone: str, shift: str
) -> None:
    worker = Worker()
    middle = datetime.fromisoformat(shift)
    steps = {timedelta(seconds=sign * second) for second in (0, 1, 29, 31, 59, 61, 899, 901) for sign in (1, -1)}
    steps |= {timedelta(minutes=minute, seconds=30) for minute in range(-300, 300, 7)}
    for step in sorted(steps):
        worker.start("r", start_time=(middle + step).isoformat())
    lake.flush(worker)
    _, api = start()
    runs = api.ok("/api/v1/runs", limit=1000)["runs"]
    assert len(runs) == len(steps)
    for bucket in ("hour", "day", "week", "month"):
        found = api.ok("/api/v1/rollups", bucket=bucket, tz=zone, measures="runs", limit=1000)["rows"]
        expected = {key: len(members) for key, members in grouped(runs, [], bucket, zone).items()}
        twice = timedelta(hours=1 if bucket == "day" and "10-28" in shift else 0)
        late = datetime(1990, 10, 28, tzinfo=UTC)
        expected = {(key[0] + (twice if key[0] >= late else timedelta()),): count for key, count in expected.items()}
        assert {keys_of(row, [], bucket): row["runs"] for row in found} == expected


def test_rows_that_nobody_reads_are_not_filled_in(api: Api) -> None:
    problem = api.get(
        "/api/v1/rollups", group_by="product,status,agent_name,host", bucket="minute", measures="runs",
        start_time_from="2026-03-23T00:00:00Z", start_time_to="2026-03-29T00:00:00Z",
    )  # fmt: skip
    assert problem.status == 400
    assert "100,000 rows" in problem.json["detail"]


@pytest.mark.parametrize(("bucket", "count"), [("hour", 48), ("day", 3), ("week", 1), ("month", 1)])
def test_empty_buckets_appear_when_the_range_is_given(api: Api, fleet: Fleet, bucket: str, count: int) -> None:
    asked = {"bucket": bucket, "tz": "Europe/Berlin", "measures": ",".join(MEASURES), "limit": 1000}
    empty = api.ok("/api/v1/rollups", **asked, start_time_from="2026-02-03T12:00:00Z",
                   start_time_to="2026-02-05T12:00:00Z")  # fmt: skip
    assert len(empty["rows"]) == count
    for row in empty["rows"]:
        assert same(row, measured([], fleet.events))
    assert same(empty["totals"], measured([], fleet.events))
    part = {"start_time_from": "2026-03-24T00:00:00Z", "start_time_to": "2026-03-27T00:00:00Z"}
    filled = api.ok("/api/v1/rollups", **asked, **part)["rows"]
    expected = grouped(api.ok("/api/v1/runs", limit=1000, **part)["runs"], [], bucket, "Europe/Berlin")
    assert {row["bucket"] for row in filled if row["runs"] == 0} or bucket in ("week", "month")
    assert {keys_of(row, [], bucket): row["runs"] for row in filled if row["runs"]} == {
        key: len(members) for key, members in expected.items()
    }
    assert [row["bucket"] for row in filled] == sorted(row["bucket"] for row in filled)


def test_empty_buckets_appear_for_every_group(api: Api) -> None:
    part = {"start_time_from": "2026-03-24T00:00:00Z", "start_time_to": "2026-03-27T00:00:00Z"}
    body = api.ok("/api/v1/rollups", group_by="product,status", bucket="day", measures="runs", limit=1000, **part)
    groups = {(row["product"], row["status"]) for row in body["rows"]}
    assert len(body["rows"]) == 3 * len(groups)
    assert sum(row["runs"] for row in body["rows"]) == body["totals"]["runs"]


def test_without_a_group_there_is_one_row_and_it_is_the_total(api: Api) -> None:
    body = api.ok("/api/v1/rollups")
    assert body["rows"] == [body["totals"]]
    assert tuple(body["totals"]) == DEFAULT_MEASURES
    assert not any(name.startswith("p9") for name in body["totals"])


@pytest.mark.parametrize("order", ["-runs", "runs", "-cost_usd,job_type", "agent_name,-job_type", "-first_start_time"])
def test_rows_come_in_the_order_that_is_asked_for(api: Api, order: str) -> None:
    rows = api.ok("/api/v1/rollups", group_by="agent_name,job_type", order_by=order)["rows"]
    expected = sorted(rows, key=lambda row: (row["agent_name"], row["job_type"]))
    for word in reversed(order.split(",")):
        name = word.removeprefix("-")
        expected.sort(key=lambda row, name=name: row[name], reverse=word.startswith("-"))  # type: ignore[misc]
    assert rows == expected


def test_more_rows_than_the_limit_are_said_to_be_cut(api: Api) -> None:
    whole = api.ok("/api/v1/rollups", group_by="host", order_by="-events")
    cut = api.ok("/api/v1/rollups", group_by="host", order_by="-events", limit=2)
    assert (whole["truncated"], cut["truncated"]) == (False, True)
    assert cut["rows"] == whole["rows"][:2]
    assert cut["totals"] == whole["totals"]


def test_sums_beyond_64_bits_stay_exact(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    for _ in range(3):
        worker.start("r", input_tokens=2**63 - 1, cost_usd="999999999.999999999")
    lake.flush(worker)
    _, api = start()
    reply = api.get("/api/v1/rollups", measures="input_tokens,cost_usd")
    assert str(3 * (2**63 - 1)) in reply.text
    assert '"cost_usd":2999999999.999999997' in reply.text
