"""P8: what is refused is kept as it came, and its neighbours go on."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from runlake.messages import RunEvent
from runlake.wire import Batch, encode_message, encode_payload
from runlake_ingest.intake import Bad, Good, read_batch

NOW = datetime(2026, 1, 28, 12, tzinfo=UTC)
GOOD = encode_message(RunEvent(event_id=UUID(int=1), run_id="r", ts=NOW, type="t"))


def event_with(raw: bytes) -> bytes:
    """An event whose payload has one value: these bytes."""
    return bytes((GOOD[0] + 1,)) + GOOD[1:] + b"\xa7payload\x81\xa1a" + raw


def read(*messages: bytes) -> list[Good | Bad]:
    header = Batch(producer="p", batch=1, first=1, count=len(messages))
    return read_batch(header, encode_payload(messages), NOW).items


@pytest.mark.parametrize(
    "bad",
    [
        msgspec.msgpack.encode(
            msgspec.msgpack.decode(GOOD) | {"ts": "2027-01-01T00:00:00+02:00", "unknown": [1], "trace_id": None}
        ),
        event_with(b"\xd4\x05\x00"),
        event_with(b"\xa1\xff"),
        event_with(b"\x91" * 100_000 + b"\x01"),
        b"\xc0",
    ],
    ids=["a rule broken", "an extension type", "not UTF-8", "nested without end", "no message"],
)
def test_p8_one_bad_message_among_99_good_ones_is_refused_with_its_own_bytes(bad: bytes) -> None:
    items = read(*[GOOD] * 40, bad, *[GOOD] * 59)
    assert [type(item) for item in items] == [Good] * 40 + [Bad] + [Good] * 59
    refused = items[40]
    assert isinstance(refused, Bad)
    assert refused.raw == bad
    assert refused.messages == 1


def test_p8_no_depth_of_nesting_is_more_than_a_refusal() -> None:
    """Also where reading just fits the stack and writing does not."""
    for depth in range(1, 1_200):
        first, deep = read(GOOD, event_with(b"\x91" * depth + b"\x01"))
        assert isinstance(first, Good)
        assert isinstance(deep, Good if depth < 32 else Bad)
