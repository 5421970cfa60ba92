"""Dedupe is exact and bounded: window, look-ups, flushes and restarts together accept every id once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from runlake.messages import RunEvent, RunStarted
from runlake_ingest.dedupe import BUCKET_SECONDS, Verdict, Window
from runlake_ingest.intake import Acceptance, BatchIn, Good, LateId
from runlake_ingest.waiting import Arrival, Waiting

WORKER = UUID("018d4f00-0000-7000-8000-00000000000a")
START = datetime(2026, 1, 28, tzinfo=UTC)
RUNS = 10**9


def message(key: int) -> Good:
    """The message of a key. Copies of a message carry one time: here the key says it."""
    ts = START + timedelta(seconds=key * BUCKET_SECONDS // 4)
    return Good(RunEvent(event_id=UUID(int=key), run_id="run", ts=ts, type="step"), key, int(ts.timestamp()))


def start_of(key: int, time: int) -> Good:
    """A copy of the start of a run, with whatever time."""
    start = datetime.fromtimestamp(time, UTC)
    run = RunStarted(event_id=UUID(int=RUNS + key), run_id="run", agent_name="a", job_type="j", start_time=start)
    return Good(run, RUNS + key, time)


class Model:
    """A receiver without sockets and threads: the real window, waiting room and acceptance; the lake is a dict.

    Besides producers whose copies carry one time there is one like the HTTP gateway: it looks for the ids of its starts
    in what it knows of the log, which may be old, and sends what it does not find, with any time.
    """

    def __init__(self, max_ids: int) -> None:
        self.max_ids = max_ids
        self.lake: dict[int, int] = {}  # id to time: what the lake holds
        self.sealed: deque[tuple[int, dict[int, int], int]] = deque()  # segments to be flushed: number, ids, last seq
        self.open: dict[int, int] = {}
        self.now = 20
        self.seq = 0
        self.segment = 1
        self.seq_of: dict[int, int] = {}  # of every id that was accepted
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
        self.window = Window(self.max_ids, horizon, self.segment - 1, self.seq)
        for event_id, time in self.lake.items():
            if time >= horizon:
                self.window.admit(event_id, time, 0)
        self.acceptance = Acceptance(WORKER, self.window, self.seq, 16)
        self.waiting = Waiting(self.window)
        self.question: list[LateId] | None = None
        self.answer: dict[LateId, bool] | None = None
        self.horizon = self.window.horizon

    def accept(self, batch: BatchIn, known: dict[LateId, bool]) -> None:
        before = self.acceptance.last_seq
        accepted = self.acceptance.accept(batch, known, self.segment, START)
        duplicate = set(accepted.ack.duplicate)
        new = [item for index, item in enumerate(batch.items) if index not in duplicate and isinstance(item, Good)]
        assert accepted.last_seq == self.seq + len(new) == before + accepted.ack.accepted
        self.seq_of |= {item.event_id: self.seq + number for number, item in enumerate(new, 1)}
        self.seq = accepted.last_seq
        self.sent |= {item.event_id for item in batch.items if isinstance(item, Good)}
        self.ever += [item.event_id for item in new]
        self.open |= {item.event_id: item.time for item in new}

    def arrives(self, rng: Random) -> None:
        """Messages of about now, with old ones among them, and many of them again."""
        self.now += rng.randint(0, 2)
        ages = [rng.randint(0, rng.choice((6, 6, 60))) for _ in range(rng.randint(1, 5))]
        self.take(BatchIn(rng.choice("abc"), 1, 1, len(ages), [message(max(1, self.now - age)) for age in ages], 10))

    def gateway_creates(self, rng: Random) -> None:
        """Runs with times of about now or long ago, and many of them again with another time."""
        searched = rng.randint(max(0, self.seq - 20), self.seq)
        keys = [rng.randint(max(1, self.now - 30), self.now) for _ in range(rng.randint(1, 4))]
        items = [
            start_of(key, int(START.timestamp()) + rng.randint(0, self.now * BUCKET_SECONDS // 4))
            for key in keys
            if self.seq_of.get(RUNS + key, searched + 1) > searched  # what it finds, it does not send
        ]
        if items:
            self.take(BatchIn("http", 1, 1, len(items), list(items), 10, searched))

    def take(self, batch: BatchIn) -> None:
        if self.waiting.must_wait(batch):
            self.waiting.add(Arrival(b"peer", batch))
        else:
            self.accept(batch, {})

    def seals(self, _: Random) -> None:
        self.sealed.append((self.segment, self.open, self.seq))
        self.segment += 1
        self.open = {}

    def flushes(self, _: Random) -> None:
        number, ids, end = self.sealed.popleft()
        assert not self.lake.keys() & ids.keys()
        self.lake |= ids
        self.window.flushed(number, end)

    def look_up_begins(self, _: Random) -> None:
        self.question = self.waiting.question()
        self.window.hold()

    def the_lake_answers(self, _: Random) -> None:
        """What it holds at this moment: flushes before and after it are not seen."""
        assert self.question is not None
        self.answer = {
            late: (late.us is not None and self.lake.get(late.event_id) == late.us // 1_000_000)
            or (late.after is not None and late.event_id in self.lake and self.seq_of[late.event_id] > late.after)
            for late in self.question
        }

    def look_up_ends(self, _: Random) -> None:
        assert self.answer is not None
        for arrival in self.waiting.resolved(self.answer):
            self.accept(arrival.batch, self.answer)
        self.question = self.answer = None
        self.window.release()

    def restarts(self) -> None:
        """What waits was not acknowledged, and is gone."""
        self.start()

    def steps(self) -> list[Callable[[Random], None]]:
        """What can happen now, as often as it is likely."""
        able: list[Callable[[Random], None]] = [self.arrives] * 8 + [self.gateway_creates] * 4 + [self.seals] * 2
        if self.sealed:
            able += [self.flushes] * 4
        if self.question is None and len(self.waiting):
            able += [self.look_up_begins] * 4
        if self.question is not None and self.answer is None:
            able += [self.the_lake_answers] * 4
        if self.answer is not None:
            able += [self.look_up_ends] * 4
        return able

    def check(self) -> None:
        assert len(self.ever) == len(set(self.ever)), "an id was accepted twice"
        assert set(self.ever) == self.sent, "an id was taken for a duplicate of nothing"
        assert self.window.horizon >= self.horizon, "the horizon sank"
        self.horizon = self.window.horizon
        if self.question is None and not self.open and not self.sealed:
            assert len(self.window) <= self.max_ids, "the window holds more than it may"


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), max_ids=st.sampled_from([1, 6, 12, 40, 100_000]))
def test_p2_every_id_is_accepted_exactly_once_whatever_happens_in_whatever_order(seed: int, max_ids: int) -> None:
    rng, model = Random(seed), Model(max_ids)
    for _ in range(250):
        if rng.random() < 0.01:
            model.restarts()
        else:
            rng.choice(model.steps())(rng)
        model.check()


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
                window.admit(time, time, segment)
        window.flushed(segment, 10 * segment)
        assert len(window) <= max_ids


def test_an_id_at_or_after_the_horizon_is_decided_without_the_lake() -> None:
    window = Window(100, horizon=1_000)
    assert window.judge(1, 1_000) is Verdict.NEW
    window.admit(1, 1_000, 1)
    assert window.judge(1, 1_000) is Verdict.DUPLICATE
    assert window.judge(2, 999) is Verdict.LATE


def test_a_horizon_between_buckets_rises_to_the_next_one() -> None:
    window = Window(100, horizon=1_001)
    assert window.horizon == 1_000 + BUCKET_SECONDS


def test_a_late_id_is_known_until_it_is_in_the_lake() -> None:
    window = Window(100, horizon=1_000)
    window.admit(1, 5, 3)
    window.flushed(2, 20)
    assert window.judge(1, 5) is Verdict.DUPLICATE
    window.flushed(3, 30)
    assert window.judge(1, 5) is Verdict.LATE
    assert len(window) == 0


def test_nothing_is_let_go_while_a_look_up_is_under_way() -> None:
    window = Window(1)
    window.admit(1, 100, 1)
    window.admit(2, 500, 1)
    window.hold()
    window.flushed(1, 10)
    assert window.judge(1, 100) is Verdict.DUPLICATE
    assert window.horizon == 0
    window.release()
    assert window.judge(1, 100) is Verdict.LATE


def test_a_bucket_stays_while_its_newest_segment_is_not_flushed() -> None:
    window = Window(1)
    assert window.admit(1, 100, 1) and window.admit(2, 100, 2)
    window.flushed(1, 10)
    assert not window.admit(2, 100, 3)
    window.flushed(2, 20)
    assert window.judge(2, 100) is Verdict.LATE


def test_unflushed_ids_stay_under_any_pressure_and_go_with_their_flush() -> None:
    window = Window(1)
    for number in range(1_000):
        window.admit(number, number * BUCKET_SECONDS, 1)
    window.flushed(0, 0)
    assert len(window) == 1_000
    assert all(window.judge(number, number * BUCKET_SECONDS) is Verdict.DUPLICATE for number in range(1_000))
    window.flushed(1, 10)
    assert len(window) == 0


def test_one_old_bucket_that_is_always_written_to_does_not_keep_the_others() -> None:
    """A producer whose clock stands still, or an import from the newest to the oldest."""
    window = Window(10_000)
    for segment in range(1, 101):
        for number in range(1_000):
            event_id = segment * 1_000 + number
            window.admit(event_id, 0 if number == 0 else event_id * BUCKET_SECONDS, segment)
        window.flushed(segment - 1, 10 * (segment - 1))
    assert len(window) <= 12_000


def test_within_the_window_an_id_is_known_whatever_time_a_copy_carries() -> None:
    window = Window(1_000)
    assert window.admit(7, 1_000, 1)
    assert window.judge(7, 9_000) is Verdict.DUPLICATE
    assert not window.admit(7, 9_000, 1)
    assert len(window) == 1


def test_it_says_up_to_which_position_ids_were_let_go() -> None:
    window = Window(1, segment=4, seq=40)
    assert window.forgotten == 0  # it holds all ids
    window.admit(1, 1_000, 5)
    window.admit(2, 2_000, 6)
    window.flushed(5, 50)
    assert window.forgotten == 50  # the first had to go, and was in segment 5
    window.admit(3, 3_000, 7)
    window.admit(4, 100, 8)  # late: it goes with its flush
    window.flushed(6, 60)
    assert window.forgotten == 60
    window.flushed(8, 80)
    assert window.forgotten == 80


def test_a_window_that_starts_with_a_horizon_has_let_go_of_all_before_its_start() -> None:
    assert Window(100, horizon=1_000, segment=4, seq=40).forgotten == 40
    assert Window(100, segment=4, seq=40).forgotten == 0
