"""How long an emitter waits for a worker that is silent or does not understand, on a clock that the test moves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runlake import wire
from runlake.emitter import Emitter
from support.emitting import event, numbers
from support.router import Received, Router, ack, ipc
from support.waiting import eventually

BACKOFF_S = 2.0
"""The longest that a link is put off after a loss."""


class Clock:
    """The sender's clock: it stands still, but for `advance`. From now, since `close` has a real one."""

    def __init__(self) -> None:
        self._now = time.monotonic()
        self._looks = 0

    def __call__(self) -> float:
        self._looks += 1
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on, and return when the sender had some turns to do what it does then."""
        self._now += seconds
        looks = self._looks
        eventually(lambda: self._looks > looks + 10)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("sender", "lane"):
        monkeypatch.setattr(f"runlake.{module}.monotonic", clock)
    return clock


def wait_out(emitter: Emitter, router: Router, clock: Clock, wait_s: float) -> None:
    """Check that the emitter waits for `wait_s` until it sends its one batch again."""
    times = len(router.received)
    clock.advance(wait_s - 0.5)
    assert emitter.stats().connected
    assert len(router.received) == times
    clock.advance(1.0)
    eventually(lambda: not emitter.stats().connected)  # given up; it is put off from this moment on
    clock.advance(BACKOFF_S)
    eventually(lambda: len(router.received) == times + 1)
    eventually(lambda: emitter.stats().connected)


def test_a_worker_that_stays_silent_is_sent_its_batches_more_and_more_rarely(tmp_path: Path, clock: Clock) -> None:
    with Router(ipc(tmp_path), lambda received: []) as router:
        router.silent = True  # an answer to another question is an answer, too, and may come when the clock has moved
        emitter = Emitter(router.endpoint)
        emitter.emit(event(1))
        eventually(lambda: router.received)
        for wait_s in (10, 20, 40, 80, 160, 320, 600, 600):
            wait_out(emitter, router, clock, wait_s)
        assert emitter.stats().reconnects == 8
        emitter.close(0)


def test_an_answer_makes_the_wait_for_the_next_a_short_one_again(tmp_path: Path, clock: Clock) -> None:
    silent = True

    def script(received: Received) -> list[wire.Ack]:
        return [] if silent else [ack(received.header)]

    with Router(ipc(tmp_path), script) as router:
        router.silent = True
        emitter = Emitter(router.endpoint)
        emitter.emit(event(1))
        eventually(lambda: router.received)
        for wait_s in (10, 20):
            wait_out(emitter, router, clock, wait_s)
        silent = False
        wait_out(emitter, router, clock, 40)
        eventually(lambda: emitter.stats().acknowledged == 1)
        silent = True
        emitter.emit(event(2))
        clock.advance(1.0)
        eventually(lambda: numbers(router.messages)[-1] == 2)
        wait_out(emitter, router, clock, 10)
        emitter.close(0)


def test_who_is_not_understood_waits_a_minute_before_it_tries_again(tmp_path: Path, clock: Clock) -> None:
    def script(received: Received) -> list[wire.Reply]:
        if len(router.received) < 4:
            return [wire.Refused(reason="Wire version 1 is not spoken here")]
        return [ack(received.header)]

    with Router(ipc(tmp_path), script) as router:
        emitter = Emitter(router.endpoint)
        emitter.emit(event(1))
        for times in range(1, 4):
            eventually(lambda: emitter.stats().protocol_errors == times)  # noqa: B023 (used up before the next turn)
            clock.advance(59.5)
            assert not emitter.stats().connected
            assert len(router.received) == times
            clock.advance(0.5 + BACKOFF_S)
        eventually(lambda: emitter.stats().accepted == 1)
        assert (len(router.received), emitter.stats().protocol_errors, emitter.stats().reconnects) == (4, 3, 3)
        assert emitter.close()
