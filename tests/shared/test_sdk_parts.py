"""The pure parts of the SDK: the sender's books, the backoff, the counter, the messages of few fields."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runlake import wire
from runlake.backoff import Backoff, Patience
from runlake.briefmessages import BriefEnd, BriefEvent, BriefStart
from runlake.messages import RunEvent, RunStarted, RunUpdated
from runlake.outbox import Outbox
from runlake.plain import PlainEncoder
from runlake.tally import Tally


@given(st.lists(st.sampled_from(["seal", "send", "settle first", "settle last", "rewind"]), max_size=60))
def test_an_outbox_sends_each_connection_its_unsettled_batches_in_order(steps: list[str]) -> None:
    outbox = Outbox("p")
    bytes_of: dict[int, list[bytes]] = {}
    in_flight: list[int] = []  # on this connection, as it was sent
    settled: set[int] = set()
    sealed = 0
    for step in steps:
        match step:
            case "seal":
                outbox.seal([b"\x01", b"\x02"])
                sealed += 1
            case "send":
                batch = outbox.next_waiting()
                if batch is not None:
                    assert bytes_of.setdefault(batch.number, batch.frames) is batch.frames
                    unsettled = [number for number in range(1, sealed + 1) if number not in settled]
                    assert batch.number == next(number for number in unsettled if number not in in_flight)
                    assert (batch.first, batch.count) == (batch.number * 2 - 1, 2)
                    outbox.mark_sent()
                    in_flight.append(batch.number)
            case "rewind":
                outbox.rewind()
                in_flight.clear()
            case _ if in_flight:
                number = in_flight.pop(0 if step == "settle first" else -1)
                settled.add(number)
                assert outbox.settle(number) is not None
                assert outbox.settle(number) is None
        oldest = next((number for number in range(1, sealed + 1) if number not in settled), sealed + 1)
        assert outbox.settled_through == (oldest - 1) * 2
        assert outbox.unsettled == (sealed - len(settled)) * 2
        assert outbox.in_flight == len(in_flight)


def test_a_backoff_doubles_with_jitter_up_to_its_limit_and_begins_anew() -> None:
    backoff = Backoff(random.Random(1), 0.02, 2.0)
    delays = [backoff.delay_s() for _ in range(20)]
    for attempt, delay in enumerate(delays):
        longest = min(0.02 * 2**attempt, 2.0)
        assert longest / 2 <= delay <= longest
    assert len(set(delays)) == 20
    backoff.reset()
    assert backoff.delay_s() <= 0.02


def test_patience_doubles_up_to_its_limit_and_begins_anew() -> None:
    patience = Patience(10.0)
    waits = []
    for _ in range(8):
        waits.append(patience.wait_s)
        patience.lengthen()
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600]
    patience.reset()
    assert patience.wait_s == 10
    longer = Patience(900.0)
    longer.lengthen()
    assert longer.wait_s == 900


def test_a_tally_counts_every_thread_and_its_reading_changes_nothing() -> None:
    tally = Tally()

    def work() -> None:
        for _ in range(50_000):
            tally.add()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert tally.value <= 200_000
    for thread in threads:
        thread.join()
    assert tally.value == tally.value == 200_000


@pytest.mark.parametrize(("brief", "whole"), [(BriefStart, RunStarted), (BriefEvent, RunEvent), (BriefEnd, RunUpdated)])
def test_a_brief_message_is_on_the_wire_the_one_that_it_is_brief_for(brief: Any, whole: Any) -> None:
    """Same kind, same names of fields, same values; and what is not said is absent."""
    key, now = uuid4(), datetime.now(UTC)
    values: dict[str, Any] = {
        **{"event_id": key, "run_event_id": key, "run_id": "r", "agent_name": "a", "job_type": "j", "host": "h"},
        **{"start_time": now, "ts": now, "end_time": now, "duration_ms": 7, "type": "t", "payload": {"a": 1}},
        **{"status": "running", "trace_id": "1", "span_id": "2", "error_summary": "s", "error_details": "d"},
    }
    given = {name: values[name] for name in brief.__struct_fields__}
    as_text = {name: str(value) if value is key else value for name, value in given.items()}
    encode = PlainEncoder(lambda: None).encode
    assert wire.decode_message(encode(brief(**as_text))) == whole(**given)
    required = brief.__struct_fields__[: len(brief.__struct_fields__) - len(brief.__struct_defaults__)]
    least = {name: given[name] for name in required}
    sent = msgspec.msgpack.decode(encode(brief(**{name: as_text[name] for name in required})))
    assert sent.keys() == {"kind", *required}
    assert wire.decode_message(msgspec.msgpack.encode(sent)) == whole(**least)
