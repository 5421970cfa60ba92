"""Batches that wait for the lake's answer: others overtake them, those of their own producer do not."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from runlake.messages import RunEvent
from runlake_ingest.dedupe import Window
from runlake_ingest.intake import BatchIn, Good, LateId
from runlake_ingest.waiting import Arrival, Waiting

HORIZON = 1_000_000


def batch(producer: str, *keys: int) -> BatchIn:
    """Messages of these keys; a negative one is late."""
    items = []
    for key in keys:
        time = HORIZON + (key if key > 0 else -100)
        ts = datetime.fromtimestamp(time, UTC)
        items.append(Good(RunEvent(event_id=UUID(int=abs(key)), run_id="run", ts=ts, type="step"), abs(key), time))
    return BatchIn(producer, 1, 1, len(items), list(items), 10 * len(items))


@pytest.fixture
def waiting() -> Waiting:
    return Waiting(Window(100, HORIZON))


def add(waiting: Waiting, *batches: BatchIn) -> None:
    for each in batches:
        assert waiting.must_wait(each)
        waiting.add(Arrival(None, each))


def answered(known: dict[int, bool]) -> dict[LateId, bool]:
    return {LateId(key, (HORIZON - 100) * 1_000_000): found for key, found in known.items()}


def taken(waiting: Waiting, known: dict[int, bool]) -> list[BatchIn]:
    return [arrival.batch for arrival in waiting.resolved(answered(known))]


def asked(waiting: Waiting) -> list[int]:
    return sorted(late.event_id for late in waiting.question())


def test_only_late_messages_and_what_stands_behind_them_wait(waiting: Waiting) -> None:
    assert not waiting.must_wait(batch("a", 1, 2))
    add(waiting, batch("a", 1, -2), batch("a", 3))
    assert not waiting.must_wait(batch("b", 4))
    assert asked(waiting) == [2]
    assert (len(waiting), waiting.size) == (2, 30)


def test_a_batch_does_not_overtake_one_of_its_producer_that_waits_on(waiting: Waiting) -> None:
    asked_about = batch("x", -1)
    add(waiting, asked_about)
    assert asked(waiting) == [1]
    first, second, other = batch("a", -2), batch("a", 3), batch("b", -1, 4)
    add(waiting, first, second, other)  # after the question was put
    assert taken(waiting, {1: False}) == [asked_about, other]
    assert asked(waiting) == [2]
    assert waiting.must_wait(batch("a", 5)) and not waiting.must_wait(batch("b", 5))
    assert taken(waiting, {2: True}) == [first, second]
    assert (len(waiting), waiting.size) == (0, 0)
    assert not waiting.must_wait(batch("a", 5))


def test_what_is_taken_in_while_resolving_counts_for_what_is_judged_next() -> None:
    window = Window(100, HORIZON)
    waiting = Waiting(window)
    first, second = batch("a", -1), batch("b", -1)
    add(waiting, first, second)
    arrivals = waiting.resolved(answered({1: False}))
    assert next(arrivals).batch is first
    window.admit(1, HORIZON - 100, 1)
    assert next(arrivals).batch is second
    assert waiting.question() == []
