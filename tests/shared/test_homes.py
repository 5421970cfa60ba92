"""The home worker: the same for everybody who knows the list, evenly spread, and moved no more than needed."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from hashlib import blake2b
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runlake import wire
from runlake.homes import Homes, encoded_home_key, home_key, home_of
from runlake.ids import Uuid7Source
from runlake.messages import CommitAssociated, Message, RunEvent, RunStarted, RunUpdated
from support.messages import messages

A, B, C = WORKERS = [UUID(f"018d4f00-0000-7000-8000-0000000000{last}") for last in ("aa", "ab", "ac")]
RUN = UUID("018d4f00-0000-7000-8000-000000000001")
CHANGE = UUID("018d4f00-0000-7000-8000-000000000002")
AT = datetime(2026, 1, 28, 10, 30, tzinfo=UTC)

# What every language must find: the key, the numbers of the three workers, and whose the key is.
GOLDEN = [
    (RUN.bytes, (0x17BD9D2E8EE088F4, 0xF47080F265CF93EF, 0xC90A17541C0C7221), B),
    (CHANGE.bytes, (0x6210CB458F4F5E45, 0x77BDAB818EA2E00B, 0x24BBAE8A9C0CB90A), B),
    (b"scout-1", (0x86C2A2C6CD6F1565, 0x469EF7D612A4C7D0, 0x1721586D39D11A1B), A),
    ("größer/日本".encode(), (0x5FFCCEFB7696F9EA, 0x1560B5E2374421F7, 0x7E6FA34D813F7DBA), C),
    (b"", (0xBF46EECEA2F70563, 0x2EA2DA6CE4FF3BC5, 0x332273DAB25F870C), A),
    (b"x" * 1_024, (0xB7A66E2DB32B54CD, 0xBD000E6219CF1E80, 0x8FDB5B7E6811E043), B),
    (b"\x00", (0xB6E1F1D268A09F3C, 0xD3A487DD11ECC20E, 0x87E7083E76CD7D48), B),
]


@pytest.mark.parametrize(("key", "numbers", "home"), GOLDEN)
def test_the_home_of_a_key_is_that_of_its_vector(key: bytes, numbers: tuple[int, ...], home: UUID) -> None:
    found = [int.from_bytes(blake2b(key, key=one.bytes, digest_size=8).digest(), "big") for one in WORKERS]
    assert tuple(found) == numbers
    assert home == WORKERS[found.index(max(found))]
    assert home_of(key, WORKERS) == home


def test_the_key_is_the_runs_id_or_the_name_of_a_run_that_has_none() -> None:
    start = RunStarted(event_id=RUN, run_id="r", agent_name="a", job_type="j", start_time=AT)
    update = RunUpdated(event_id=CHANGE, run_event_id=RUN, ts=AT)
    commit = CommitAssociated(event_id=CHANGE, run_event_id=RUN, ts=AT, commit_hash="0123abc", commit_source="ci")
    event = RunEvent(event_id=CHANGE, run_id="r", run_event_id=RUN, ts=AT, type="step")
    assert [home_key(message) for message in (start, update, commit, event)] == [RUN.bytes] * 4
    assert home_key(RunEvent(event_id=CHANGE, run_id="größer", ts=AT, type="step")) == "größer".encode()


@given(messages())
def test_the_key_of_an_encoded_message_is_the_messages(message: Message) -> None:
    encoded = wire.encode_message(message)
    assert encoded_home_key(encoded) == home_key(message)
    homes = Homes(WORKERS)
    for _ in range(2):  # from the message, and as it is remembered
        assert WORKERS[homes.of_encoded(encoded)] == home_of(home_key(message), WORKERS)


@pytest.mark.parametrize("form", [str(RUN), str(RUN).upper(), RUN.hex, RUN.bytes])
def test_a_runs_id_has_one_home_in_whatever_form_it_comes(form: str | bytes) -> None:
    fields = {"kind": "run.updated", "event_id": str(CHANGE), "run_event_id": form, "ts": AT}
    assert encoded_home_key(msgspec.msgpack.encode(fields)) == RUN.bytes


def test_a_run_id_that_looks_like_an_id_is_a_name_and_null_is_no_id() -> None:
    fields = {"kind": "run.event", "event_id": str(CHANGE), "run_id": str(RUN), "run_event_id": None, "ts": AT}
    named = msgspec.msgpack.encode(fields)
    assert encoded_home_key(named) == str(RUN).encode()
    homes = Homes(WORKERS)
    of_run = homes.of_encoded(msgspec.msgpack.encode(fields | {"run_event_id": str(RUN)}))
    assert WORKERS[homes.of_encoded(named)] == home_of(str(RUN).encode(), WORKERS)
    assert WORKERS[of_run] == home_of(RUN.bytes, WORKERS)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        msgspec.msgpack.encode({"kind": "run.unknown", "event_id": str(RUN)}),
        msgspec.msgpack.encode({"kind": "run.updated"}),
        msgspec.msgpack.encode({"kind": "run.updated", "run_event_id": "no id"}),
        msgspec.msgpack.encode({"kind": "run.event", "run_id": 7}),
        msgspec.msgpack.encode({"kind": "run.event"})[:-1] + b"\xa1\xff",
    ],
    ids=range(8),
)
def test_a_message_that_nobody_can_read_has_the_empty_key_and_a_home(encoded: bytes) -> None:
    assert encoded_home_key(encoded) == b""
    assert WORKERS[Homes(WORKERS).of_encoded(encoded)] == home_of(b"", WORKERS)


@given(st.binary(max_size=64), st.lists(st.uuids(), min_size=1, max_size=8, unique=True), st.randoms())
def test_the_order_of_the_list_changes_no_home(key: bytes, workers: list[UUID], shuffled: random.Random) -> None:
    home = home_of(key, workers)
    other = list(workers)
    shuffled.shuffle(other)
    assert home_of(key, other) == home
    assert home in workers


@given(st.binary(max_size=64), st.lists(st.uuids(), min_size=2, max_size=8, unique=True))
def test_only_what_a_new_worker_takes_over_moves(key: bytes, workers: list[UUID]) -> None:
    *before, new = workers
    assert home_of(key, workers) in (home_of(key, before), new)


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_ten_thousand_runs_are_spread_evenly_and_one_in_n_moves_to_a_new_worker(count: int) -> None:
    new_id, drawn = Uuid7Source(), random.Random(count)
    workers = [UUID(bytes=drawn.randbytes(16), version=4) for _ in range(count + 1)]
    keys = [new_id().bytes for _ in range(10_000)]
    before = [home_of(key, workers[:-1]) for key in keys]
    after = [home_of(key, workers) for key in keys]
    for homes, n in ((before, count), (after, count + 1)):
        expected = len(keys) / n
        found = Counter(homes)
        chi_square = sum((found[worker] - expected) ** 2 / expected for worker in workers[:n])
        assert chi_square < n - 1 + 7 * (2 * (n - 1)) ** 0.5 + 10  # once in more than a million draws
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    assert moved == Counter(after)[workers[-1]]
    assert 0.8 < moved * (count + 1) / len(keys) < 1.2


def test_a_list_of_one_has_every_message_and_reads_none() -> None:
    assert home_of(b"anything", [B]) == B
    assert Homes([B]).of_encoded(b"not even a message") == 0


def test_more_runs_than_are_remembered_keep_their_homes() -> None:
    homes, new_id = Homes(WORKERS), Uuid7Source()
    for _ in range(20_000):
        event = RunEvent(event_id=CHANGE, run_id="r", run_event_id=new_id(), ts=AT, type="step")
        assert WORKERS[homes.of_encoded(wire.encode_message(event))] == home_of(home_key(event), WORKERS)
