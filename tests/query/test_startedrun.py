"""The Run that is made of a start by itself, and the fold in SQL: one rule, held equal under generated messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import duckdb
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runlake.completion import complete
from runlake.fields import CHANGE_FIELDS
from runlake.lake.duck import connect
from runlake.lake.schema import changes_query, fold_query, present_query
from runlake.messages import RunStarted
from runlake_query.runs import RUN
from runlake_query.startedrun import StartedRun
from support.messages import NOW, runs_started

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


def folded(database: duckdb.DuckDBPyConnection, message: RunStarted, received_at: datetime) -> Any:
    """The one change through the SQL of the fold, as the API shows it."""
    whole = complete(message)
    values: dict[str, Any] = {
        "worker": str(message.event_id), "seq": 1, "received_at": received_at.isoformat(), "producer": "p",
        "kind": "run.started", "event_id": str(message.event_id), "run_event_id": str(message.event_id),
        "ts": message.start_time.isoformat(),
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
    database.execute("DELETE FROM changes")
    names = ", ".join(values)
    database.execute(f"INSERT INTO changes ({names}) VALUES ({', '.join('?' * len(values))})", list(values.values()))
    row = database.execute(
        "SELECT " + RUN + " FROM (" + present_query("(" + fold_query(changes_query("changes")) + ")") + ")"
    ).fetchone()
    assert row is not None
    return json.loads(row[0])


def plain(value: Any) -> Any:
    """Maps as HTTP bodies can hold them: no bytes, and integers that every reader of JSON takes."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, bytes) else value


@given(
    message=runs_started(),
    ends_after=st.none() | st.integers(-5, 100_000),
    later=st.sampled_from((0, 1, 100_000, 123_450, 999_999)),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_run_of_a_start_equals_its_fold(
    database: duckdb.DuckDBPyConnection, message: RunStarted, ends_after: int | None, later: int
) -> None:
    changed: dict[str, Any] = {
        name: plain(value) for name in ("metrics_json", "context_json") if (value := getattr(message, name)) is not None
    }
    if ends_after is not None and message.start_time < NOW:
        changed["end_time"] = message.start_time + timedelta(microseconds=ends_after * 777)
    message = msgspec.structs.replace(message, **changed)
    received_at = NOW + timedelta(microseconds=later)
    assert json.loads(StartedRun(message).shown(received_at)) == folded(database, message, received_at)
