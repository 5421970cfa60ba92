"""What a worker refuses, and the reason that it gives: it always names the field."""

from __future__ import annotations

import decimal
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runlake.errors import InvalidMessage
from runlake.messages import MAX_COUNT, MAX_NAME_CHARS, MAX_TEXT_CHARS, Message, RunStarted
from runlake.validation import MAX_MAP_DEPTH, MAX_MAP_VALUES, usable_cost, validate
from runlake.wire import decode_message
from support.messages import COUNT_FIELDS, NAME_FIELDS, TEXT_FIELDS, TIME_FIELDS

NOW = datetime(2026, 1, 28, 12, 0, tzinfo=UTC)
ID = "018d4f00-0000-7000-8000-000000000001"
COMMON: dict[str, dict[str, Any]] = {
    "run.started": {
        "event_id": ID,
        "run_id": "r",
        "agent_name": "a",
        "job_type": "j",
        "start_time": "2026-01-28T10:30:00Z",
    },
    "run.updated": {"event_id": ID, "run_event_id": ID, "ts": "2026-01-28T10:30:00Z"},
    "commit.associated": {
        "event_id": ID,
        "run_event_id": ID,
        "ts": "2026-01-28T10:30:00Z",
        "commit_hash": "0123abc",
        "commit_source": "manual",
    },
    "run.event": {"event_id": ID, "run_id": "r", "ts": "2026-01-28T10:30:00Z", "type": "t"},
}
KINDS = tuple(COMMON)
WITH_FIELDS = ("run.started", "run.updated")
TIME_OF = {"run.started": "start_time", "run.updated": "ts", "commit.associated": "ts", "run.event": "ts"}


def accept(kind: str, **fields: Any) -> Message:
    """What a worker does with a message that came in: read it, and check it."""
    message = decode_message(msgspec.msgpack.encode({"kind": kind} | COMMON[kind] | fields))
    validate(message, NOW)
    return message


def refuse(kind: str, says: str, **fields: Any) -> None:
    """The message is refused, and the reason names the one field given and says why."""
    (field,) = fields
    with pytest.raises(InvalidMessage, match=says) as caught:
        accept(kind, **fields)
    assert caught.value.field == field
    assert caught.value.reason.startswith(f"{field}: ")


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_message_of_each_kind_is_accepted(kind: str) -> None:
    accept(kind)


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in KINDS for field in COMMON[kind]])
def test_a_missing_field_is_named(kind: str, field: str) -> None:
    fields = {name: value for name, value in COMMON[kind].items() if name != field}
    with pytest.raises(InvalidMessage, match=f"^{field}: is required$") as caught:
        decode_message(msgspec.msgpack.encode({"kind": kind} | fields))
    assert caught.value.field == field


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in KINDS for field in COMMON[kind]])
@pytest.mark.parametrize("value", [None, 7, True, 1.5, [], {}], ids=repr)
def test_a_required_field_of_a_wrong_type_is_named(kind: str, field: str, value: Any) -> None:
    refuse(kind, "expected", **{field: value})


@pytest.mark.parametrize("kind", ["run.deleted", "", "Run.Started", None, 7])
def test_an_unknown_kind_is_named(kind: Any) -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode_message(msgspec.msgpack.encode(COMMON["run.started"] | {"kind": kind}))
    assert caught.value.field == "kind"


def test_a_message_without_a_kind_is_told_so() -> None:
    with pytest.raises(InvalidMessage, match="kind: is required"):
        decode_message(msgspec.msgpack.encode(COMMON["run.started"]))


@pytest.mark.parametrize("field", ["event_id", "run_event_id"])
@pytest.mark.parametrize("value", ["", "no", ID[:-1], ID + "0", ID.replace("-", "_"), b"short", "urn:uuid:" + ID])
def test_a_wrong_uuid_is_refused(field: str, value: Any) -> None:
    refuse("run.updated", "UUID", **{field: value})


@pytest.mark.parametrize("value", [ID, ID.upper(), ID.replace("-", ""), UUID(ID).bytes], ids=str)
def test_a_uuid_may_be_written_in_each_of_its_forms(value: Any) -> None:
    assert accept("run.started", event_id=value).event_id == UUID(ID)


# Times


@pytest.mark.parametrize("kind", KINDS)
def test_a_naive_time_is_refused(kind: str) -> None:
    refuse(kind, "timezone", **{TIME_OF[kind]: "2026-01-28T10:30:00"})


@pytest.mark.parametrize("field", TIME_FIELDS)
@pytest.mark.parametrize("kind", WITH_FIELDS)
def test_optional_times_keep_the_same_rules(kind: str, field: str) -> None:
    refuse(kind, "timezone", **{field: "2026-01-28T10:30:00"})
    refuse(kind, "before 1970", **{field: "1969-12-31T23:59:59Z"})
    refuse(kind, "24 hours ahead", **{field: "2026-01-29T12:00:01Z"})
    accept(kind, **{field: "2026-01-29T12:00:00Z"})


def test_the_time_of_an_associated_commit_keeps_the_same_rules() -> None:
    refuse("commit.associated", "24 hours ahead", commit_timestamp="2027-01-01T00:00:00Z")
    refuse("commit.associated", "before 1970", commit_timestamp="1815-12-10T00:00:00Z")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "value",
    [
        "1970-01-01T00:00:00Z",
        "1969-12-31T23:30:00-01:00",
        "2026-01-29T12:00:00Z",
        "2026-01-29T22:00:00+10:00",
        "2026-01-28T10:30:00.123456+05:30",
    ],
)
def test_times_inside_the_bounds_are_accepted_with_any_offset(kind: str, value: str) -> None:
    accept(kind, **{TIME_OF[kind]: value})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("2026-01-29T12:00:00.000001Z", "24 hours ahead"),
        ("2026-01-29T22:00:01+10:00", "24 hours ahead"),
        ("9999-12-31T23:59:59Z", "24 hours ahead"),
        ("9999-12-31T23:59:59-23:59", "24 hours ahead"),
        ("1969-12-31T23:59:59.999999Z", "before 1970"),
        ("1970-01-01T00:59:59+01:00", "before 1970"),
        ("0001-01-01T00:00:00Z", "before 1970"),
        ("0001-01-01T00:00:00+23:59", "before 1970"),
        ("2026-02-30T00:00:00Z", "RFC3339"),
        ("2026-01-28T10:30:60Z", "RFC3339"),
        ("2026-01-28T10:30:00+24:00", "RFC3339"),
        ("10000-01-01T00:00:00Z", "RFC3339"),
        ("yesterday", "RFC3339"),
        ("", "RFC3339"),
    ],
)
def test_times_outside_the_bounds_are_refused(kind: str, value: str, says: str) -> None:
    refuse(kind, says, **{TIME_OF[kind]: value})


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
    st.datetimes(datetime(1980, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)),
)
def test_every_time_in_the_calendar_is_accepted_or_refused_by_name(at: datetime, minutes: int, now: datetime) -> None:
    written = at.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    message = RunStarted(event_id=UUID(ID), run_id="r", agent_name="a", job_type="j", start_time=written)
    seconds = (at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() - minutes * 60
    ahead = (at - now).total_seconds() - minutes * 60
    if seconds >= 0 and ahead <= 24 * 3600:
        validate(message, now)
    else:
        with pytest.raises(InvalidMessage, match="start_time: must not be"):
            validate(message, now)


# Names, texts, counts


@pytest.mark.parametrize("field", ["status"])
@pytest.mark.parametrize("value", ["", "done", "SUCCESS", "success ", "failed\n"])
@pytest.mark.parametrize("kind", WITH_FIELDS)
def test_an_unknown_status_is_refused(kind: str, field: str, value: str) -> None:
    refuse(kind, "invalid enum value", **{field: value})


@pytest.mark.parametrize("alias", ["failed", "completed", "succeeded"])
def test_a_status_alias_is_accepted_when_a_run_is_created_and_not_afterwards(alias: str) -> None:
    accept("run.started", status=alias)
    refuse("run.updated", "invalid enum value", status=alias)


@pytest.mark.parametrize("kind", WITH_FIELDS)
@pytest.mark.parametrize(
    ("field", "longest"),
    [*((name, MAX_NAME_CHARS) for name in NAME_FIELDS), *((name, MAX_TEXT_CHARS) for name in TEXT_FIELDS)],
)
def test_texts_are_accepted_up_to_their_bound_and_refused_beyond(kind: str, field: str, longest: int) -> None:
    accept(kind, **{field: "𝕏" * longest})
    refuse(kind, f"length <= {longest}", **{field: "x" * (longest + 1)})
    refuse(kind, "expected `str", **{field: 7})
    refuse(kind, "expected `str", **{field: b"bytes"})


@pytest.mark.parametrize("field", ["run_id", "agent_name", "job_type"])
def test_required_names_are_neither_empty_nor_too_long(field: str) -> None:
    refuse("run.started", "length >= 1", **{field: ""})
    refuse("run.started", "length <= 1024", **{field: "x" * 1025})


@pytest.mark.parametrize("field", ["run_id", "type"])
def test_required_names_of_an_event_are_neither_empty_nor_too_long(field: str) -> None:
    refuse("run.event", "length >= 1", **{field: ""})
    refuse("run.event", "length <= 1024", **{field: "x" * 1025})


@pytest.mark.parametrize("field", ["trace_id", "span_id", "parent_span_id", "prev_hash", "event_hash"])
def test_optional_names_of_an_event_are_not_too_long(field: str) -> None:
    refuse("run.event", "length <= 1024", **{field: "x" * 1025})


@pytest.mark.parametrize("kind", WITH_FIELDS)
@pytest.mark.parametrize("field", COUNT_FIELDS)
def test_counts_are_whole_numbers_from_nought_to_what_a_bigint_holds(kind: str, field: str) -> None:
    accept(kind, **{field: 0})
    accept(kind, **{field: MAX_COUNT})
    refuse(kind, ">= 0", **{field: -1})
    refuse(kind, f"<= {MAX_COUNT}", **{field: MAX_COUNT + 1})
    for wrong in (1.5, 1.0, "1", True, [1]):
        refuse(kind, "expected `int", **{field: wrong})


# Commits


@pytest.mark.parametrize("kind", [*WITH_FIELDS, "commit.associated"])
@pytest.mark.parametrize("value", ["0123abc", "ABCDEFG", "a" * 40, "zzzzzzz"])
def test_commit_hashes_of_7_to_40_letters_and_digits_are_accepted(kind: str, value: str) -> None:
    accept(kind, commit_hash=value)


@pytest.mark.parametrize("kind", [*WITH_FIELDS, "commit.associated"])
@pytest.mark.parametrize(
    "value", ["", "abcdef", "a" * 41, "0123abc\n", "\n0123abc", "0123 abc", "0123-abc", "é" * 7, "٣" * 8]
)
def test_other_commit_hashes_are_refused(kind: str, value: str) -> None:
    refuse(kind, "matching regex", commit_hash=value)


@pytest.mark.parametrize("kind", [*WITH_FIELDS, "commit.associated"])
def test_a_commit_source_is_one_of_three(kind: str) -> None:
    for good in ("manual", "llm", "ci"):
        accept(kind, commit_source=good)
    for bad in ("robot", "", "CI"):
        refuse(kind, "invalid enum value", commit_source=bad)


# Costs


@pytest.mark.parametrize("kind", WITH_FIELDS)
@pytest.mark.parametrize(
    "value", [0, 1, 0.25, "0.25", "1e-9", "999999999.999999999", "0.00000000000001", 999_999_999, "-0"]
)
def test_costs_that_fit_their_column_are_accepted(kind: str, value: Any) -> None:
    accept(kind, cost_usd=value)


@pytest.mark.parametrize("kind", WITH_FIELDS)
@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        float("-inf"),
        "NaN",
        "sNaN",
        "-Infinity",
        -0.01,
        "-1E-400",
        10**9,
        "999999999.9999999999",
        "1E+999999",
        2**64 - 1,
    ],
    ids=str,
)
def test_costs_that_do_not_fit_are_refused(kind: str, value: Any) -> None:
    refuse(kind, "at least 0 and below", cost_usd=value)


@pytest.mark.parametrize("value", ["", "free", "1,50", "$1", True, b"1", [], {}], ids=repr)
def test_costs_that_are_no_numbers_are_refused(value: Any) -> None:
    refuse("run.started", "decimal", cost_usd=value)


def test_costs_are_rounded_to_nine_decimals() -> None:
    assert str(usable_cost(Decimal("0.12345678949"))) == "0.123456789"
    assert str(usable_cost(Decimal("-0"))) == "0E-9"
    assert usable_cost(Decimal("999999999.9999999994")) == Decimal("999999999.999999999")
    assert usable_cost(Decimal("999999999.9999999995")) is None


@given(st.decimals())
def test_a_usable_cost_always_fits_its_column(cost: Decimal) -> None:
    usable = usable_cost(cost)
    if usable is not None:
        assert 0 <= usable < 10**9
        assert usable.as_tuple().exponent == -9
        assert not usable.is_signed()


def test_a_cost_is_usable_whatever_the_decimal_context_of_the_thread() -> None:
    with decimal.localcontext(decimal.Context(prec=3, traps=[decimal.Inexact, decimal.Rounded])):
        assert usable_cost(Decimal("123456.7891234567")) == Decimal("123456.789123457")


# Free-form maps

MAPS = [("run.started", "metrics_json"), ("run.updated", "context_json"), ("run.event", "payload")]


def nested(levels: int, inner: Any = None) -> Any:
    """A map of this many levels, of maps and lists by turns."""
    value: Any = {"x": inner}
    for level in range(levels - 1):
        value = {"x": value} if level % 2 or level == levels - 2 else [value]
    return value


@pytest.mark.parametrize(("kind", "field"), MAPS)
def test_maps_are_accepted_down_to_their_last_level_and_refused_below(kind: str, field: str) -> None:
    accept(kind, **{field: nested(MAX_MAP_DEPTH)})
    refuse(kind, f"at most {MAX_MAP_DEPTH} levels", **{field: nested(MAX_MAP_DEPTH + 1)})
    refuse(kind, f"at most {MAX_MAP_DEPTH} levels", **{field: nested(MAX_MAP_DEPTH + 500)})


@pytest.mark.parametrize(("kind", "field"), MAPS)
def test_maps_are_accepted_up_to_their_last_value_and_refused_beyond(kind: str, field: str) -> None:
    accept(kind, **{field: {str(number): number for number in range(MAX_MAP_VALUES)}})
    refuse(kind, "at most 10,000 values", **{field: {str(number): 0 for number in range(MAX_MAP_VALUES + 1)}})
    refuse(kind, "at most 10,000 values", **{field: {"x": [0] * MAX_MAP_VALUES}})
    refuse(kind, "at most 10,000 values", **{field: {str(number): [[]] * 100 for number in range(100)}})


@pytest.mark.parametrize(("kind", "field"), MAPS)
def test_keys_of_maps_are_strings_at_every_level(kind: str, field: str) -> None:
    for key in (1, None, 1.5, b"bytes", True):
        refuse(kind, "keys must be strings", **{field: {key: 1}})
        refuse(kind, "keys must be strings", **{field: {"list": [{"map": {key: 1}}]}})


@pytest.mark.parametrize(("kind", "field"), MAPS)
def test_maps_hold_what_json_can_say_and_bytes_and_times(kind: str, field: str) -> None:
    accept(kind, **{field: {}})
    accept(kind, **{field: {"a": [None, True, 1, -(2**63), 2**64 - 1, 1.5, float("nan"), "text", b"\xff", [], {}]}})


@pytest.mark.parametrize(("kind", "field"), MAPS)
def test_extension_types_in_maps_are_refused(kind: str, field: str) -> None:
    refuse(kind, "Ext, which cannot be stored", **{field: {"a": [msgspec.msgpack.Ext(5, b"x")]}})


@pytest.mark.parametrize(("kind", "field"), MAPS)
@pytest.mark.parametrize("value", [[], "text", 1, True, b"bytes"], ids=repr)
def test_what_is_no_map_is_refused(kind: str, field: str, value: Any) -> None:
    refuse(kind, "expected `object", **{field: value})
