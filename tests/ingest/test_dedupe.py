"""Dedupe is exact and bounded: window, look-ups, flushes and restarts together accept every id once."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runlake.messages import RunEvent
from runlake_ingest.dedupe import BUCKET_SECONDS, Verdict, Window
from runlake_ingest.intake import Acceptance, BatchIn, Good
from runlake_ingest.waiting import Arrival, Waiting

WORKER = UUID("018d4f00-0000-7000-8000-00000000000a")
START = datetime(2026, 1, 28, tzinfo=UTC)


def message(key: int) -> Good:
    """The message of a key. Copies of a message carry one time: here the key says it."""
    ts = START + timedelta(seconds=(key * 7919 % 40) * BUCKET_SECONDS // 2)
    return Good(RunEvent(event_id=UUID(int=key), run_id="run", ts=ts, type="step"), key, int(ts.timestamp()))


class Model(RuleBasedStateMachine):
    """A receiver without sockets and threads: the real window, waiting room and acceptance; the lake is a dict."""

    @initialize(max_ids=st.sampled_from([1, 3, 10, 30, 100_000]))
    def begin(self, max_ids: int) -> None:
        self.max_ids = max_ids
        self.lake: dict[int, int] = {}  # id to time: what the lake holds
        self.sealed: deque[tuple[int, dict[int, int]]] = deque()  # segments that wait for their flush
        self.open: dict[int, int] = {}
        self.seq = 0
        self.segment = 1
        self.ever: list[int] = []  # every id that was accepted, in order
        self.sent: set[int] = set()  # every id that was judged
        self.start()

    def start(self) -> None:
        """As a worker starts: the journal goes to the lake, and the window is read from the lake."""
        while self.sealed:
            self.lake |= self.sealed.popleft()[1]
        self.lake |= self.open
        self.open = {}
        self.segment += 1
        buckets: dict[int, int] = {}
        for time in self.lake.values():
            buckets[time // BUCKET_SECONDS] = buckets.get(time // BUCKET_SECONDS, 0) + 1
        held = horizon = 0
        for bucket in sorted(buckets, reverse=True):
            held += buckets[bucket]
            if held > self.max_ids:
                horizon = (bucket + 1) * BUCKET_SECONDS
                break
        self.window = Window(self.max_ids, horizon)
        for event_id, time in self.lake.items():
            if time >= horizon:
                self.window.add(event_id, time, 0)
        self.acceptance = Acceptance(WORKER, self.window, self.seq, 16)
        self.waiting = Waiting(self.window)
        self.question: list[int] | None = None
        self.answer: dict[int, bool] | None = None
        self.horizon = self.window.horizon

    def accept(self, batch: BatchIn, known: dict[int, bool]) -> None:
        before = self.acceptance.last_seq
        accepted = self.acceptance.accept(batch, known, self.segment, START)
        duplicate = set(accepted.ack.duplicate)
        new = [item for index, item in enumerate(batch.items) if index not in duplicate and isinstance(item, Good)]
        assert accepted.last_seq == self.seq + len(new) == before + accepted.ack.accepted
        self.seq = accepted.last_seq
        self.sent |= {item.event_id for item in batch.items if isinstance(item, Good)}
        self.ever += [item.event_id for item in new]
        self.open |= {item.event_id: item.time for item in new}

    @rule(producer=st.sampled_from("abc"), keys=st.lists(st.integers(1, 60), min_size=1, max_size=8))
    def arrives(self, producer: str, keys: list[int]) -> None:
        batch = BatchIn(producer, 1, 1, len(keys), [message(key) for key in keys], 10)
        if self.waiting.must_wait(batch):
            self.waiting.add(Arrival(b"peer", batch))
        else:
            self.accept(batch, {})

    @rule()
    def seals(self) -> None:
        self.sealed.append((self.segment, self.open))
        self.segment += 1
        self.open = {}

    @precondition(lambda self: self.sealed)
    @rule()
    def flushes(self) -> None:
        number, ids = self.sealed.popleft()
        assert not self.lake.keys() & ids.keys()
        self.lake |= ids
        self.window.flushed(number)

    @precondition(lambda self: self.question is None and len(self.waiting) > 0)
    @rule()
    def look_up_begins(self) -> None:
        self.question = [event_id for event_id, _ in self.waiting.question()]
        self.window.hold()

    @precondition(lambda self: self.question is not None and self.answer is None)
    @rule()
    def the_lake_answers(self) -> None:
        """What it holds at this moment: flushes before and after it are not seen."""
        assert self.question is not None
        self.answer = {event_id: event_id in self.lake for event_id in self.question}

    @precondition(lambda self: self.answer is not None)
    @rule()
    def look_up_ends(self) -> None:
        assert self.answer is not None
        for arrival in self.waiting.resolved(self.answer):
            self.accept(arrival.batch, self.answer)
        self.question = self.answer = None
        self.window.release()

    @rule()
    def restarts(self) -> None:
        """What waits was not acknowledged, and is gone."""
        self.start()

    @invariant()
    def every_id_is_accepted_exactly_once(self) -> None:
        assert len(self.ever) == len(set(self.ever))
        assert set(self.ever) == self.sent

    @invariant()
    def the_horizon_never_sinks(self) -> None:
        assert self.window.horizon >= self.horizon
        self.horizon = self.window.horizon

    @invariant()
    def the_window_holds_no_more_than_it_may(self) -> None:
        """Beyond its limit it holds what is not in the lake yet, and what shares a bucket with that or is newer."""
        if self.question is None and not self.open and not self.sealed:
            assert len(self.window) <= self.max_ids


Model.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEveryIdIsAcceptedOnce = Model.TestCase


@settings(max_examples=200, deadline=None)
@given(
    max_ids=st.integers(1, 50),
    adds=st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 5)), max_size=80, unique_by=lambda pair: pair[0]),
)
def test_after_everything_is_flushed_the_size_is_bounded(max_ids: int, adds: list[tuple[int, int]]) -> None:
    window = Window(max_ids)
    for segment in range(1, 6):
        for time in [time for time, its in adds if its == segment]:
            if window.judge(time, time) is not Verdict.DUPLICATE:
                window.add(time, time, segment)
        window.flushed(segment)
        assert len(window) <= max_ids


def test_an_id_at_or_after_the_horizon_is_decided_without_the_lake() -> None:
    window = Window(100, horizon=1_000)
    assert window.judge(1, 1_000) is Verdict.NEW
    window.add(1, 1_000, 1)
    assert window.judge(1, 1_000) is Verdict.DUPLICATE
    assert window.judge(2, 999) is Verdict.LATE


def test_a_horizon_between_buckets_rises_to_the_next_one() -> None:
    window = Window(100, horizon=1_001)
    assert window.horizon == 1_000 + BUCKET_SECONDS


def test_a_late_id_is_known_until_it_is_in_the_lake() -> None:
    window = Window(100, horizon=1_000)
    window.add(1, 5, 3)
    window.flushed(2)
    assert window.judge(1, 5) is Verdict.DUPLICATE
    window.flushed(3)
    assert window.judge(1, 5) is Verdict.LATE
    assert len(window) == 0


def test_nothing_is_let_go_while_a_look_up_is_under_way() -> None:
    window = Window(1)
    window.add(1, 100, 1)
    window.add(2, 500, 1)
    window.hold()
    window.flushed(1)
    assert window.judge(1, 100) is Verdict.DUPLICATE
    assert window.horizon == 0
    window.release()
    assert window.judge(1, 100) is Verdict.LATE


def test_unflushed_ids_stay_under_any_pressure() -> None:
    window = Window(1)
    for number in range(1_000):
        window.add(number, number * BUCKET_SECONDS, 1)
    window.flushed(0)
    assert len(window) == 1_000
    assert window.horizon == 0
