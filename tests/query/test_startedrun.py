"""The Run that is made of a start by itself, or of a Run and one change more, and the fold in SQL: one rule, held
equal under generated messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import duckdb
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runlake.completion import complete
from runlake.fields import CHANGE_FIELDS
from runlake.lake.duck import connect
from runlake.lake.schema import changes_query, fold_query, present_query
from runlake.messages import RunStarted, RunUpdated
from runlake_query.changedrun import changed_run
from runlake_query.runs import RUN
from runlake_query.startedrun import StartedRun
from support.messages import NOW, runs_started, runs_updated
from support.samples import started, updated

_WORKER = UUID(int=1)
_RFC3339 = "CREATE MACRO rfc3339(t) AS replace((t AT TIME ZONE 'UTC')::VARCHAR, ' ', 'T') || 'Z'"


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = connect()
    connection.execute(_RFC3339)
    columns = ", ".join(f"{field.name} {field.sql_type}" for field in CHANGE_FIELDS)
    connection.execute(
        "CREATE TABLE changes (worker UUID, seq BIGINT, received_at TIMESTAMPTZ, producer VARCHAR, kind VARCHAR,"
        f" event_id UUID, run_event_id UUID, ts TIMESTAMPTZ, {columns})"
    )
    yield connection
    connection.close()


def folded(database: duckdb.DuckDBPyConnection, *changes: tuple[RunStarted | RunUpdated, datetime]) -> Any:
    """These changes of one run, and when each was received, through the SQL of the fold, as the API shows it."""
    database.execute("DELETE FROM changes")
    for seq, (message, received_at) in enumerate(changes, 1):
        _insert(database, seq, message, received_at)
    row = database.execute(
        "SELECT " + RUN + " FROM (" + present_query("(" + fold_query(changes_query("changes")) + ")") + ")"
    ).fetchone()
    assert row is not None
    return json.loads(row[0])


def _insert(
    database: duckdb.DuckDBPyConnection, seq: int, message: RunStarted | RunUpdated, received_at: datetime
) -> None:
    whole = complete(message)
    start = isinstance(message, RunStarted)
    run = message.event_id if isinstance(message, RunStarted) else message.run_event_id
    time = message.start_time if isinstance(message, RunStarted) else message.ts
    values: dict[str, Any] = {
        "worker": str(_WORKER), "seq": seq, "received_at": received_at.isoformat(), "producer": "p",
        "kind": "run.started" if start else "run.updated", "event_id": str(message.event_id),
        "run_event_id": str(run), "ts": time.isoformat(),
    }  # fmt: skip
    for field in CHANGE_FIELDS:
        value = getattr(whole, field.name, None)
        if value is None:
            continue
        match field.sql_type:
            case "TIMESTAMPTZ":
                value = value.isoformat()
            case "JSON":
                value = msgspec.json.encode(value).decode()  # as the journal writes it
            case "DECIMAL(18,9)":
                value = str(value)
        values[field.name] = value
    names = ", ".join(values)
    database.execute(f"INSERT INTO changes ({names}) VALUES ({', '.join('?' * len(values))})", list(values.values()))


def plain(value: Any) -> Any:
    """Maps as HTTP bodies can hold them: no bytes, and integers that every reader of JSON takes."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, bytes) else value


def plain_maps(message: RunStarted | RunUpdated) -> dict[str, Any]:
    """Its free-form maps, made plain."""
    return {
        name: plain(value) for name in ("metrics_json", "context_json") if (value := getattr(message, name)) is not None
    }


@given(
    message=runs_started(),
    ends_after=st.none() | st.integers(-5, 100_000),
    later=st.sampled_from((0, 1, 100_000, 123_450, 999_999)),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_run_of_a_start_equals_its_fold(
    database: duckdb.DuckDBPyConnection, message: RunStarted, ends_after: int | None, later: int
) -> None:
    changed = plain_maps(message)
    if ends_after is not None and message.start_time < NOW:
        changed["end_time"] = message.start_time + timedelta(microseconds=ends_after * 777)
    message = msgspec.structs.replace(message, **changed)
    received_at = NOW + timedelta(microseconds=later)
    assert json.loads(StartedRun(message).shown(received_at)) == folded(database, (message, received_at))


def ending(message: RunUpdated, start: RunStarted, after: int | None) -> RunUpdated:
    """The message as a change of this run; with an end, so far from the start, where that is a time a run may have."""
    ends = {"end_time": start.start_time + timedelta(microseconds=after * 777)} if after is not None else {}
    fields = plain_maps(message) | (ends if start.start_time < NOW else {})
    return msgspec.structs.replace(message, run_event_id=start.event_id, **fields)


@given(
    start=runs_started(),
    changes=st.lists(st.tuples(runs_updated(), st.none() | st.integers(-5, 100_000)), min_size=1, max_size=3),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_run_after_one_change_more_equals_the_fold_of_all_or_is_not_told(
    database: duckdb.DuckDBPyConnection, start: RunStarted, changes: list[tuple[RunUpdated, int | None]]
) -> None:
    start = msgspec.structs.replace(start, **plain_maps(start))
    log: list[tuple[RunStarted | RunUpdated, datetime]] = [(start, NOW)]
    for number, (message, ends_after) in enumerate(changes, 1):
        before = json.dumps(folded(database, *log)).encode()
        change, received_at = ending(message, start, ends_after), NOW + timedelta(microseconds=number * 10)
        log.append((change, received_at))
        told = changed_run(before, change, received_at)
        if told is not None:
            assert json.loads(told) == folded(database, *log)


def test_a_change_of_what_costs_and_commits_are_made_of_is_not_told_and_others_are() -> None:
    start = started(start_time=NOW - timedelta(hours=1))
    body = StartedRun(start).shown(NOW)
    for fields, told in (
        ({"status": "success"}, True), ({"metrics_json": {"pages": 3}}, True), ({"end_time": NOW}, True),
        ({"metrics_json": {"input_tokens": 3}}, False), ({"model": "m"}, False), ({"cost_usd": Decimal(1)}, False),
        ({"commit_hash": "abcdef0"}, False),
    ):  # fmt: skip
        assert (changed_run(body, updated(start.event_id, None, **fields), NOW) is not None) is told, fields


def test_a_duration_that_may_have_been_computed_is_not_told_anew() -> None:
    start = started(start_time=NOW - timedelta(hours=1))
    ended = changed_run(StartedRun(start).shown(NOW), updated(start.event_id, end_time=NOW), NOW)
    assert ended is not None
    assert changed_run(ended, updated(start.event_id, end_time=NOW + timedelta(seconds=1)), NOW) is None
    told = changed_run(ended, updated(start.event_id, end_time=NOW, duration_ms=7), NOW)
    assert told is not None
    assert json.loads(told)["duration_ms"] == 7
