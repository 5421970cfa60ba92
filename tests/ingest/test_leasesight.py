"""When a worker may acknowledge, by what it last saw of its lease."""

from __future__ import annotations

from runlake_ingest.leasesight import SURE_FOR_S, LeaseSight

TURN_S = 0.05


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.seen_at = 1000.0
        self.sight = LeaseSight(lambda: self.seen_at, lambda: self.now)

    def answers(self, seconds: float) -> list[bool]:
        """What it says at each of the receiver's turns in so many seconds."""
        said = []
        for _ in range(round(seconds / TURN_S)):
            self.now += TURN_S
            said.append(self.sight.may_acknowledge())
        return said

    def skip(self, seconds: float) -> None:
        """Time goes by, and it is not asked."""
        self.now += seconds


def test_while_it_sees_its_lease_it_acknowledges() -> None:
    clock = Clock()
    for _ in range(20):
        assert all(clock.answers(1))
        clock.seen_at = clock.now


def test_when_the_catalog_is_out_of_reach_it_waits_for_one_look_and_then_goes_on() -> None:
    clock = Clock()
    assert all(clock.answers(SURE_FOR_S - 1))
    waited = clock.answers(60)
    held = waited.count(False)
    assert 1.9 <= held * TURN_S <= 2.1
    assert all(clock.answers(3600))
    clock.seen_at = clock.now
    assert all(clock.answers(SURE_FOR_S - 1))


def test_one_that_was_stopped_waits_for_a_look_before_anything_else() -> None:
    clock = Clock()
    assert all(clock.answers(1))
    clock.skip(30)
    assert not any(clock.answers(1))
    clock.seen_at = clock.now  # it is still this worker
    assert all(clock.answers(1))


def test_so_does_one_that_was_stopped_while_the_catalog_was_out_of_reach() -> None:
    clock = Clock()
    clock.answers(30)
    assert all(clock.answers(1))
    clock.skip(30)
    assert not any(clock.answers(1))


def test_turns_that_take_long_are_not_taken_for_having_been_stopped() -> None:
    clock = Clock()
    clock.skip(SURE_FOR_S + 1)
    for _ in range(4):
        clock.skip(2)
        last = clock.sight.may_acknowledge()
    assert last
