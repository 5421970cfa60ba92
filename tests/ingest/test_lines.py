"""What is derived at the door, and how a line says it: pure functions, up to the exact value."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runlake.completion import complete
from runlake.messages import MAX_COUNT, MAX_NAME_CHARS, STATUS_ALIASES, Message, RunStarted, RunUpdated
from runlake.validation import validate
from runlake_ingest.lines import Delivery, Rejected, line_head, message_line, raw_text, record_line
from support.messages import NOW, messages
from support.samples import START, event, started, updated


def derived(**fields: Any) -> RunStarted:
    found = complete(started(**fields))
    assert isinstance(found, RunStarted)
    return found


def test_a_start_without_a_status_is_running_and_an_update_without_one_says_none() -> None:
    assert derived().status == "running"
    assert complete(updated(started().event_id)).status is None


@pytest.mark.parametrize(("alias", "status"), STATUS_ALIASES.items())
def test_an_alias_of_a_status_becomes_the_status(alias: Any, status: str) -> None:
    assert derived(status=alias).status == status


@pytest.mark.parametrize("status", ["running", "success", "failure", "partial", "timeout", "cancelled"])
def test_a_status_stays_as_it_is(status: Any) -> None:
    assert derived(status=status).status == status


@pytest.mark.parametrize("place", ["metrics_json", "context_json"])
@pytest.mark.parametrize(
    ("name", "field", "value", "expected"),
    [
        ("input_tokens", "input_tokens", 12, 12),
        ("prompt_tokens", "input_tokens", 12, 12),
        ("output_tokens", "output_tokens", 0, 0),
        ("completion_tokens", "output_tokens", 7.0, 7),
        ("api_cost_usd", "cost_usd", 0.25, Decimal("0.25")),
        ("cost_usd", "cost_usd", "1e-9", Decimal("1e-9")),
        ("cost_usd", "cost_usd", 3, Decimal(3)),
        ("model", "model", "some-model", "some-model"),
        ("trace_id", "trace_id", "abc", "abc"),
        ("span_id", "span_id", "def", "def"),
    ],
)
def test_model_use_is_taken_from_the_maps(place: str, name: str, field: str, value: Any, expected: Any) -> None:
    assert getattr(derived(**{place: {name: value}}), field) == expected
    fields: dict[str, Any] = {place: {name: value}}
    assert getattr(complete(updated(started().event_id, **fields)), field) == expected


_UNUSABLE: dict[str, tuple[str, list[Any]]] = {
    "prompt_tokens": (
        "input_tokens",
        [-1, 1.5, True, "12", None, [1], MAX_COUNT + 1, float("nan"), float("inf"), 1e300],
    ),
    "cost_usd": (
        "cost_usd",
        [
            -0.01,
            1e9,
            float("nan"),
            float("inf"),
            "free",
            "",
            True,
            None,
            {},
            "sNaN",
            "-Infinity",
            "1e999999",
            2**64 - 1,
        ],
    ),
    "model": ("model", ["", "m" * (MAX_NAME_CHARS + 1), 3, None, ["m"]]),
}


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [(name, field, value) for name, (field, values) in _UNUSABLE.items() for value in values],
)
def test_a_value_that_cannot_be_used_is_ignored(name: str, field: str, value: Any) -> None:
    found = derived(metrics_json={name: value})
    assert getattr(found, field) is None
    assert name in (found.metrics_json or {})


def test_a_messages_own_field_outranks_its_maps() -> None:
    found = derived(input_tokens=1, cost_usd=Decimal(2), model="own", metrics_json={"input_tokens": 5, "cost_usd": 6},
                    context_json={"model": "other"})  # fmt: skip
    assert (found.input_tokens, found.cost_usd, found.model) == (1, Decimal(2), "own")


def test_the_first_usable_value_is_taken_by_name_and_then_by_map() -> None:
    assert derived(metrics_json={"prompt_tokens": 1, "input_tokens": 2}).input_tokens == 2
    assert derived(metrics_json={"prompt_tokens": 1, "input_tokens": -2}).input_tokens == 1
    assert derived(metrics_json={"model": ""}, context_json={"model": "second"}).model == "second"
    assert derived(metrics_json={"model": "first"}, context_json={"model": "second"}).model == "first"
    assert derived(metrics_json={"cost_usd": 1, "api_cost_usd": 2}).cost_usd == 2


def test_the_maps_stay_as_they_were_sent() -> None:
    metrics = {"prompt_tokens": 3, "other": [1, {"deep": None}]}
    assert derived(metrics_json=metrics).metrics_json == metrics


def test_a_cost_is_rounded_to_nine_decimals() -> None:
    assert derived(cost_usd=Decimal("0.1234567894999")).cost_usd == Decimal("0.123456789")
    assert derived(metrics_json={"cost_usd": 0.1 + 0.2}).cost_usd == Decimal("0.3")


@given(messages())
@settings(max_examples=200, deadline=None)
def test_every_valid_message_becomes_one_line_of_json_with_its_position(message: Message) -> None:
    line = message_line(41, line_head(START, 'name "of"\n a producer'), message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    said = json.loads(line)
    assert (said["seq"], said["producer"]) == (41, 'name "of"\n a producer')
    assert datetime.fromisoformat(said["received_at"]) == START
    assert said["event_id"] == str(message.event_id)


@given(messages())
@settings(max_examples=200, deadline=None)
def test_what_is_derived_is_valid_and_deriving_twice_changes_nothing(message: Message) -> None:
    if isinstance(message, RunStarted | RunUpdated):
        once = complete(message)
        validate(once, NOW)
        assert complete(once) == once


@given(st.lists(st.tuples(st.text(max_size=5), st.integers() | st.floats() | st.text(max_size=5) | st.booleans())))
@settings(max_examples=200, deadline=None)
def test_no_value_in_a_map_makes_deriving_fail(values: list[tuple[str, Any]]) -> None:
    names = ["input_tokens", "prompt_tokens", "cost_usd", "api_cost_usd", "model", "trace_id"]
    complete(started(metrics_json={names[index % len(names)]: value for index, (_, value) in enumerate(values)}))


def test_a_line_keeps_times_with_their_zone() -> None:
    ts = datetime(2026, 1, 28, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    said = json.loads(message_line(1, line_head(START, "p"), event(ts=ts)))
    assert datetime.fromisoformat(said["ts"]) == ts.astimezone(UTC)


def test_a_refused_message_keeps_its_raw_bytes() -> None:
    raw = bytes(range(256))
    line = record_line(Rejected(received_at=START, producer="p", reason="a reason", raw=raw_text(raw)))
    said = json.loads(line)
    assert base64.b64decode(said["raw"]) == raw
    assert (said["kind"], said["reason"]) == ("rejected", "a reason")
    assert "field" not in said


def test_the_books_of_a_bare_push_have_no_numbers() -> None:
    books = Delivery(first_seq=1, received_at=START, producer="(push)", received=1, accepted=1, duplicate=0, rejected=0)
    said = json.loads(record_line(books))
    assert said["kind"] == "delivery"
    assert "batch" not in said and "first_number" not in said
