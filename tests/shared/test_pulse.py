"""A loop that did not turn and a clock that jumped are told, and nothing else is."""

from __future__ import annotations

from runlake.pulse import Pulse
from support.journals import Logged


class Clocks:
    def __init__(self) -> None:
        self.now, self.ahead = 100.0, 1e9
        self.logged = Logged()
        self.pulse = Pulse(self.logged.log, 1.0, lambda: self.now, lambda: self.now + self.ahead)
        self.pulse.beat()

    def told_after(self, seconds: float, jump: float = 0.0) -> list[tuple[str, float]]:
        """What is said of a turn that comes so much later, while the wall clock jumps."""
        said = len(self.logged.lines())
        self.now += seconds
        self.ahead += jump
        self.pulse.beat()
        return [(line["event"], line["seconds"]) for line in self.logged.lines()[said:]]


def test_turns_in_time_with_a_clock_that_goes_evenly_are_not_worth_a_word() -> None:
    clocks = Clocks()
    assert [clocks.told_after(seconds) for seconds in (1.0, 0.0, 2.9)] == [[], [], []]
    assert [clocks.told_after(1.0, jump=0.4) for _ in range(20)] == [[]] * 20  # set right little by little


def test_a_turn_that_comes_late_is_told() -> None:
    assert Clocks().told_after(61.0) == [("stalled", 61.0)]


def test_a_clock_that_jumps_is_told_once_with_its_direction() -> None:
    clocks = Clocks()
    assert clocks.told_after(1.0, jump=3_600.0) == [("clock_jumped", 3_600.0)]
    assert clocks.told_after(1.0) == []
    assert clocks.told_after(1.0, jump=-7_200.0) == [("clock_jumped", -7_200.0)]
    assert clocks.told_after(5.0, jump=2.0) == [("stalled", 5.0), ("clock_jumped", 2.0)]
