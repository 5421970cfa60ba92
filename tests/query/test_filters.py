"""The filters of lists, rollups and streams are one thing: the same names, values, words and refusals everywhere."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import pytest

from runlake.fields import DIMENSIONS
from runlake_query import rollups, runs, streams
from runlake_query.filters import SINGLE_FILTERS, Where
from runlake_query.model import State
from runlake_query.problems import nearest
from runlake_query.totals import Totals
from support.api import Api

PATHS = ("/api/v1/runs", "/api/v1/rollups", "/api/v1/stream")
FILTERS = {*DIMENSIONS, *SINGLE_FILTERS}
_OWN = {"limit", "offset", "cursor", "after", "format", "group_by", "bucket", "tz", "measures", "order_by", "type"}
WRONG = [
    ("status", "sucess"), ("start_time_from", "2026-01-28"), ("start_time_to", "now"), ("created_after", "0"),
    ("created_before", ""), ("min_duration_ms", "-1"), ("max_duration_ms", "1.5"), ("root", "yes"), ("agent", "x"),
]  # fmt: skip


def asked(api: Api, path: str, **parameters: Any) -> tuple[int, str]:
    """The status, and the body of what is no 200: a stream has no end."""
    connection = HTTPConnection(urlsplit(api.url).netloc, timeout=30)
    try:
        connection.request("GET", f"{path}?{urlencode(parameters, doseq=True)}")
        response = connection.getresponse()
        return response.status, "" if response.status == 200 else response.read().decode()
    finally:
        connection.close()


def test_lists_rollups_and_streams_take_the_same_filters_in_the_same_words(api: Api) -> None:
    paths = api.ok("/openapi.json")["paths"]
    told = [
        {
            one["name"]: one
            for one in paths[path]["get"]["parameters"]
            if one["in"] == "query" and one["name"] in FILTERS
        }
        for path in PATHS
    ]
    assert told[0].keys() == FILTERS
    assert told[0] == told[1] == told[2]
    for path in PATHS:
        assert {one["name"] for one in paths[path]["get"]["parameters"] if one["in"] == "query"} <= FILTERS | _OWN
    accepted = [
        {*runs.LIST_PARAMETERS, *runs.LIST_REPEATABLE}, {*rollups.PARAMETERS, *rollups.REPEATABLE},
        {*streams.PARAMETERS, *streams.REPEATABLE},
    ]  # fmt: skip
    assert all(names & FILTERS == FILTERS for names in accepted)


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_is_refused_in_one_place_is_refused_in_the_same_words_in_all(api: Api, name: str, value: str) -> None:
    found = [asked(api, path, **{name: value}) for path in PATHS]
    assert [status for status, _ in found] == [400, 400, 400]
    if name != "agent":  # the nearest name depends on what else is known there
        assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_what_is_taken_in_one_place_is_taken_in_all(api: Api, name: str) -> None:
    value = {"root": "true", "stale": "true", "status": "completed", "q": "x"}.get(
        name, "2026-01-28T10:30:00Z" if "_" in name else "x"
    )
    value = "5" if name.endswith("_ms") else value
    assert [asked(api, path, **{name: value})[0] for path in PATHS] == [200, 200, 200]
    several = [asked(api, path, **{name: [value, value]}) for path in PATHS]
    assert several[0] == several[1] == several[2]
    assert several[0][0] == (200 if name in DIMENSIONS else 400)


def test_a_list_and_a_rollup_of_the_same_filters_are_of_the_same_runs(api: Api) -> None:
    for filters in ({"root": "true"}, {"status": ["failed", "timeout"], "q": "run-1"}, {"min_duration_ms": "250"}):
        total = api.ok("/api/v1/runs", limit=1, **filters)["total"]
        assert total == api.ok("/api/v1/rollups", measures="runs", **filters)["totals"]["runs"] > 0


@pytest.mark.parametrize(
    ("name", "hint"),
    [("agentname", "did you mean 'agent_name'?"), ("job", "did you mean 'job_type'?"), ("zzz", "known are ")],
)
def test_a_name_that_is_near_a_known_one_is_suggested_and_no_other(name: str, hint: str) -> None:
    assert nearest(name, DIMENSIONS).startswith(hint)


@pytest.mark.parametrize("tz", ["UTC", "America/New_York", "Pacific/Kiritimati", "Asia/Kathmandu"])
def test_ranges_at_the_ends_of_time_are_harmless(api: Api, tz: str) -> None:
    for bucket in rollups.BUCKETS:
        for first, end in (
            ("0001-01-01T00:00:00Z", "0001-01-02T00:00:00Z"), ("9999-12-31T00:00:00Z", "9999-12-31T23:59:59Z"),
            ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"), ("0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00Z"),
        ):  # fmt: skip
            reply = api.get(
                "/api/v1/rollups", bucket=bucket, tz=tz, measures="runs", start_time_from=first, start_time_to=end
            )
            assert reply.status in (200, 400), reply.text
            assert "BC" not in reply.text


def test_a_total_is_counted_once_for_all_who_ask_at_the_same_position() -> None:
    totals, worker = Totals(), UUID(int=1)
    at_five = State({worker: 5}, 0)
    some, other = Where("a = $a", {"a": 1}, frozenset("a")), Where("a = $a", {"a": 2}, frozenset("a"))
    begun, go_on = threading.Event(), threading.Event()
    counted: list[int] = []

    def count() -> int:
        counted.append(1)
        begun.set()
        assert go_on.wait(30)
        return 42

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(totals.of, some, at_five, count)
        assert begun.wait(30)
        more = [pool.submit(totals.of, some, at_five, count) for _ in range(3)]
        go_on.set()
        assert [future.result() for future in (first, *more)] == [42] * 4
    assert len(counted) == 1
    assert totals.of(other, at_five, lambda: 7) == 7
    assert totals.of(some, State({worker: 6}, 0), lambda: 43) == 43, "what was applied since may match"
    assert totals.of(some, State({worker: 6}, 1), lambda: 40) == 40, "what was removed since may have matched"


def test_a_count_that_fails_is_not_kept() -> None:
    totals = Totals()

    def fail() -> int:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        totals.of(Where("true", {}, frozenset()), State({}, 0), fail)
    assert totals.of(Where("true", {}, frozenset()), State({}, 0), lambda: 3) == 3
