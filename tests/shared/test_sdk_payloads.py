"""What agents put into payloads: all of it arrives in some form, within the worker's bounds, and nothing raises."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, UserDict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import attrs
import msgspec
import numpy as np
import pydantic
import pydantic.v1
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import runlake
from runlake import wire
from runlake.messages import RunEvent, RunStarted, RunUpdated
from runlake.plain import PlainEncoder
from runlake.validation import validate
from support.api import Api
from support.processes import Site

NOW = datetime(2026, 1, 28, 10, 30, tzinfo=UTC)
WHO = UUID(int=7)


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Data:
    x: Any
    secret: str = field(default="s3cret", repr=False)


@attrs.define
class Attrs:
    x: Any
    secret: str = attrs.field(default="s3cret", repr=False)


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    x: Any
    inner: Data | None = None
    password: pydantic.SecretStr = pydantic.SecretStr("s3cret")
    secret: str = pydantic.Field(default="s3cret", exclude=True)


class OldModel(pydantic.v1.BaseModel):
    x: Any
    secret: str = pydantic.v1.Field(default="s3cret", exclude=True)


class Struct(msgspec.Struct):
    x: Any


class Raises:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


class RaisesOnEverything:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class EndlessMap(UserDict[str, int]):
    def __len__(self) -> int:
        return 10**9

    def items(self) -> Any:
        number = 0
        while True:
            number += 1
            yield str(number), number


Pair = namedtuple("Pair", "a b")


class Sent:
    """Encodes as an emitter does, and reads as the worker does."""

    def __init__(self) -> None:
        self.described = 0
        self._encode = PlainEncoder(self._count).encode

    def _count(self) -> None:
        self.described += 1

    def message(self, message: Any) -> Any:
        raw = self._encode(message)
        assert len(raw) <= wire.MAX_MESSAGE_BYTES
        arrived = wire.decode_message(raw)
        validate(arrived, datetime.now(UTC))
        return arrived

    def payload(self, payload: Any) -> Any:
        return self.message(RunEvent(event_id=WHO, run_id="r", ts=NOW, type="t", payload=payload)).payload

    def value(self, value: Any) -> Any:
        return self.payload({"value": value})["value"]


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ({3}, [3]),
        (frozenset("a"), ["a"]),
        (deque([1]), [1]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        (Pair(1, {2}), {"a": 1, "b": [2]}),
        (OrderedDict(a={1}), {"a": [1]}),
        (Counter("aa"), {"a": 2}),
        (UserDict({"a": 1}), {"a": 1}),
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), str(UUID(int=1))),
        (PurePosixPath("/a/b"), "/a/b"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), datetime(2026, 1, 2, 3, tzinfo=UTC)),
        (datetime(2026, 1, 2, 3), "2026-01-02T03:00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(1, 2), "01:02:00"),
        (timedelta(seconds=90), "PT90S"),
        (b"\x00", b"\x00"),
        (bytearray(b"\x01"), b"\x01"),
        (memoryview(b"\x02"), b"\x02"),
        (ValueError("no"), {"type": "ValueError", "message": "no"}),
        (Data({1}), {"x": [1]}),
        (Attrs({1}), {"x": [1]}),
        (Struct({1}), {"x": [1]}),
        (OldModel(x={1}), {"x": [1]}),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.datetime64("2026-01-02T03:04:05"), "2026-01-02T03:04:05"),
        (np.array([{1}], dtype=object), [[1]]),
        ({1: "a", None: "b", 2.5: "c", Colour.RED: "d", UUID(int=1): "e"},
         {"1": "a", "None": "b", "2.5": "c", "red": "d", str(UUID(int=1)): "e"}),
        (2**64 - 1, 2**64 - 1),
    ],
)  # fmt: skip
def test_a_value_with_a_plain_form_arrives_in_it_and_is_not_counted(sent: Sent, value: Any, arrives: Any) -> None:
    assert sent.value(value) == arrives
    assert sent.described == 0


def test_pydantic_models_arrive_with_what_they_export_and_without_their_secrets(sent: Sent) -> None:
    arrived = sent.value(Model(x=1, inner=Data(2), more="extra"))  # type: ignore[call-arg]
    assert arrived == {"x": 1, "inner": {"x": 2}, "password": "SecretStr('**********')", "more": "extra"}


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        (np.float64("inf"), "Infinity"),
        (Raises(), "<Raises>"),
        pytest.param(10**10_000, "<int of 33,220 bits>", id="huge"),
        (bytes(10 * 2**20), "<bytes of 10,485,760 bytes>"),
        (np.zeros((100, 100)), "<ndarray shape=(100, 100) dtype=float64>"),
        (1j, "1j"),
        (len, "<built-in function len>"),
    ],
)
def test_a_value_without_a_plain_form_is_described_and_counted(sent: Sent, value: Any, arrives: str) -> None:
    assert sent.value(value) == arrives
    assert sent.described == 1


def test_an_object_that_raises_whatever_is_asked_of_it_is_described(sent: Sent) -> None:
    assert sent.value([RaisesOnEverything(), {RaisesOnEverything(): 1}]) == [
        "<RaisesOnEverything>",
        {"<RaisesOnEverything>": 1},
    ]


def test_an_exception_whose_text_cannot_be_had_still_arrives(sent: Sent) -> None:
    class BadError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    arrived = sent.value(BadError("why"))
    assert arrived["type"].endswith("BadError")
    assert "why" in arrived["message"]


@pytest.mark.parametrize("text", ["x" * 10 * 2**20, "é" * 5 * 2**20, "😀" * 3 * 2**20], ids=["ascii", "two", "four"])
def test_a_text_of_ten_mebibytes_is_cut_with_a_mark_that_says_how_long_it_was(sent: Sent, text: str) -> None:
    arrived = sent.value(text)
    assert arrived.endswith(f"… ({len(text):,} characters)")
    assert 100_000 < len(arrived) < 300_000
    assert sent.described == 1


def test_many_texts_that_are_too_much_together_are_cut_to_what_a_message_takes(sent: Sent) -> None:
    arrived = sent.payload({str(number): "é" * 60_000 for number in range(100)})
    assert arrived["0"] == "é" * 60_000
    assert "…" in arrived
    assert sent.described


@pytest.mark.parametrize(
    "value",
    [list(range(1_000_000)), {str(number): number for number in range(50_000)}, [[[1] * 100] * 100] * 100,
     EndlessMap()],
    ids=["list", "map", "shared", "endless"],
)  # fmt: skip
def test_what_holds_too_many_values_is_cut_with_a_mark(sent: Sent, value: Any) -> None:
    arrived = sent.value(value)
    assert "more" in str(arrived)[-200:]
    assert sent.described


def _cycle() -> Any:
    cycle: list[Any] = [1]
    cycle.append({"back": cycle})
    return cycle


def _deep() -> Any:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"d": deep}
    return deep


def test_cycles_and_deep_nesting_end_in_a_description(sent: Sent) -> None:
    assert sent.value(_cycle()) == [1, {"back": "<list in itself>"}]
    assert sent.value([Data(1)] * 3) == [{"x": 1}] * 3  # the same object twice is no cycle
    deep = sent.value(_deep())
    for _ in range(31):
        deep = deep["d"]
    assert isinstance(deep, str)


def test_keys_that_become_the_same_text_are_kept_apart(sent: Sent) -> None:
    assert sent.value({"1": "a", 1: "b"}) == {"1": "a", "1 (int)": "b"}


def test_a_payload_that_is_no_map_is_put_into_one(sent: Sent) -> None:
    assert sent.payload([1, {2}]) == {"value": [1, [2]]}
    assert sent.payload(Data(1)) == {"x": 1}


def test_a_map_that_another_thread_changes_meanwhile_arrives_somehow(sent: Sent) -> None:
    class Changing(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("dictionary changed size during iteration")

    assert isinstance(sent.value(Changing(a=1)), str)


def test_all_of_a_runs_texts_and_maps_together_fit_into_a_message(sent: Sent) -> None:
    long, big = "😀" * 65_536, {str(number): "x" * 200 for number in range(9_000)}
    fields: dict[str, Any] = {
        **dict.fromkeys(("input_summary", "output_summary", "error_summary", "error_details"), long),
        "metrics_json": big,
        "context_json": {"set": {1}, **big},
    }
    start = sent.message(RunStarted(event_id=WHO, run_id="r", agent_name="a", job_type="j", start_time=NOW, **fields))
    assert start.context_json["set"] == [1]
    update = sent.message(RunUpdated(event_id=WHO, run_event_id=WHO, ts=NOW, **fields))
    assert len(update.metrics_json) > 100
    assert update.error_details.endswith("…")


_ODD = st.sampled_from(
    [math.nan, {1}, b"x", Decimal(1), NOW, Colour.RED, 10**30, "\ud800", np.int8(1), Data(1), 1j, "x" * 70_000]
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | _ODD | st.builds(Raises)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        _LEAVES,
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), inner, max_size=5)
            | st.tuples(inner, inner)
        ),
        max_leaves=30,
    )
)
def test_whatever_the_payload_is_the_worker_takes_the_message(value: Any) -> None:
    Sent().payload({"value": value})
    Sent().payload(value)


# Through a real worker


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Api]]:
    site = Site(tmp_path)
    with site.ingest():
        query, url = site.query()
        with query:
            api = Api(url)
            yield site.ingest_endpoint, api
            api.close()


def test_odd_payloads_are_stored_and_read_back_and_the_books_say_so(site: tuple[str, Api]) -> None:
    endpoint, api = site
    emitter = runlake.Emitter(endpoint=endpoint)
    makers: list[tuple[Callable[[], Any], Any]] = [
        (lambda: {1}, [1]),
        (lambda: math.nan, "NaN"),
        (lambda: np.arange(3), [0, 1, 2]),
        (lambda: Model(x=Decimal("1.5")).x, "1.5"),
        (lambda: b"\x00\xff", "AP8="),
        (lambda: NOW, "2026-01-28T10:30:00Z"),
        (_cycle, [1, {"back": "<list in itself>"}]),
        (Raises, "<Raises>"),
    ]
    with runlake.track_run("odd", "payloads", emitter=emitter) as run:
        for number, (make, _) in enumerate(makers):
            run.event("value", n=number, value=make())
        run.event("text", text="x" * 10 * 2**20)
        run.metrics(loss=np.float32(0.5), best={1})
    assert emitter.flush(30)
    stats = emitter.stats()
    assert (stats.rejected, stats.dropped, stats.accepted) == (0, {}, stats.emitted)
    assert stats.described == 4
    stored = api.ok(f"/api/v1/runs/{run.run_id}/events")
    assert [event["payload"].get("value") for event in stored[:-1]] == [arrives for _, arrives in makers]
    assert stored[-1]["payload"]["text"].endswith("… (10,485,760 characters)")
    assert api.ok(f"/api/v1/runs/{run.run_id}")["metrics_json"] == {"loss": 0.5, "best": [1]}
    emitter.close()
