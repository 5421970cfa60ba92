"""A fan: whatever happens to its connections, each message goes to its home, in order, and in dense numbers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runlake import wire
from runlake.fan import Fan, Plan
from runlake.homes import Homes, home_key, home_of
from runlake.messages import RunEvent
from runlake.sharedchain import SharedChain
from runlake.spoolformat import FIRST_AT, NUMBER, SegmentHead
from runlake.spoolorphans import FoundSegment
from runlake.spoolsegment import Segment
from runlake.stretch import MemoryStretch, QueueFull, Sealed, Start, Stretch
from support.emitting import numbers

WORKERS = [UUID(int=1 << 100 | number) for number in range(5)]
AT = datetime(2026, 1, 28, tzinfo=UTC)
HEAD = SegmentHead(producer="p", endpoint="e", ticket=1)


def plan(version: int, workers: list[UUID]) -> Plan:
    return Plan(version, tuple(wire.Member(worker=worker, endpoint="ipc://x") for worker in workers))


def message(number: int) -> RunEvent:
    return RunEvent(
        event_id=UUID(int=number), run_id="r", run_event_id=UUID(int=number % 7), ts=AT, type="t", payload={"n": number}
    )


class World:
    """A chain that is appended to, and the workers that it goes to."""

    def __init__(self, make: Callable[[int], Stretch]) -> None:
        self.make = make
        self.start = Start()
        self.last: Stretch = self.start
        self.emitted = 0
        self.discarded: list[Stretch] = []
        self.version = 1
        self.workers = WORKERS[:3]
        self.got: dict[UUID, list[int]] = {worker: [] for worker in WORKERS}
        self.numbered: dict[tuple[UUID, int], set[int]] = {}
        chain = SharedChain(self.start, 0, Homes(self.workers), self.discarded.append)
        self.fan = Fan(chain, "p/1", plan(1, self.workers))

    def emit(self) -> None:
        encoded = wire.encode_message(message(self.emitted))
        try:
            self.last.append(encoded)
        except Sealed:
            self.last.seal()
            self.last = self.last.link(self.make(self.last.limit))
            self.last.append(encoded)
        except QueueFull:
            return
        self.emitted += 1

    def send(self, place: int) -> None:
        stream = self.fan.streams[place % len(self.workers)]
        if stream.next_batch() is not None:
            stream.outbox.mark_sent()

    def answer(self, place: int) -> None:
        """The oldest batch on its way is taken by its worker."""
        place %= len(self.workers)
        stream, worker = self.fan.streams[place], self.workers[place]
        batch = next(iter(stream.outbox.unsettled_batches), None)
        if batch is None or not stream.outbox.in_flight:
            return
        assert stream.outbox.settle(batch.number) is batch
        header = wire.decode_request(batch.frames[0])
        assert isinstance(header, wire.Batch)
        assert (header.producer, header.list_version) == (f"p/{self.version}", self.version)
        taken = wire.decode_payload(batch.frames[1])
        assert all(home_of(home_key(one), self.workers) == worker for one in taken)
        self.got[worker] += numbers(taken)
        came = self.numbered.setdefault((worker, self.version), set())
        came.update(range(header.first, header.first + header.count))
        assert came == set(range(1, len(came) + 1))
        self.fan.trim()

    def lose(self, place: int) -> None:
        self.fan.streams[place % len(self.workers)].outbox.rewind()

    def change(self, count: int) -> None:
        self.version += 1
        self.workers = WORKERS[-count:] if self.version % 2 else WORKERS[:count]
        self.fan.begin_anew(f"p/{self.version}", plan(self.version, self.workers), Homes(self.workers))

    def finish(self) -> None:
        for _ in range(10 * self.emitted + 100):
            if self.fan.is_settled:
                return
            for place in range(len(self.workers)):
                self.lose(place)
                self.send(place)
                self.answer(place)
        raise AssertionError("it does not come to an end")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("emit"), st.integers(1, 60)),
        st.tuples(st.sampled_from(["send", "answer", "lose", "look"]), st.integers(0, 4)),
        st.tuples(st.just("change"), st.integers(1, 4)),
    ),
    max_size=60,
)


def run_steps(world: World, steps: list[tuple[str, int]]) -> None:
    for step, count in steps:
        match step:
            case "emit":
                for _ in range(count):
                    world.emit()
            case "send":
                world.send(count)
            case "answer":
                world.answer(count)
            case "lose":
                world.lose(count)
            case "look":
                world.fan.streams[count % len(world.workers)].look_ahead()
            case _:
                world.change(count)
    world.finish()
    assert set().union(*world.got.values()) == set(range(world.emitted))
    for got in world.got.values():
        for run in range(7):
            first_seen = list(dict.fromkeys(n for n in got if n % 7 == run))
            assert first_seen == sorted(first_seen)
    assert world.fan.acknowledged_ahead() == 0


@given(STEPS)
def test_in_memory_whatever_happens_all_messages_arrive_at_their_homes(steps: list[tuple[str, int]]) -> None:
    run_steps(World(lambda base: MemoryStretch(base, 10_000, 1 << 20)), steps)


@given(STEPS)
def test_in_a_spool_whatever_happens_all_messages_arrive_at_their_homes(steps: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder:

        def make(base: int) -> Stretch:
            return Segment(Path(folder) / f"{base:012d}.seg", HEAD, base, 8_192, 1)

        world = World(make)
        run_steps(world, steps)
        for path in Path(folder).glob("*.seg"):
            assert NUMBER.unpack_from(path.read_bytes(), FIRST_AT)[0] == 0  # nobody numbers a chain of several


@given(STEPS, st.integers(0, 300))
def test_an_orphan_of_several_segments_arrives_at_its_homes(steps: list[tuple[str, int]], count: int) -> None:
    with TemporaryDirectory() as folder:
        made: list[Segment] = []

        def make(base: int) -> Stretch:
            made.append(Segment(Path(folder) / f"{len(made):012d}.seg", HEAD, base, 8_192, 1 if not made else 0))
            return made[-1]

        written = World(make)
        for _ in range(count):
            written.emit()
        if not made:
            return
        world = World(make)
        found = [FoundSegment(made[0].path, 0)]
        for segment in made[1:]:
            found.append(FoundSegment(segment.path, found[-1].limit))
            found[-2].link(found[-1])
        chain = SharedChain(found[0], 0, Homes(world.workers), world.discarded.append)
        world.fan = Fan(chain, "p/1", plan(1, world.workers))
        world.emitted = count
        run_steps(world, [step for step in steps if step[0] != "emit"])
        world.fan.finish()
        assert not list(Path(folder).glob("*.seg"))


def test_what_is_settled_by_all_is_let_go_of_and_what_one_has_not_is_kept() -> None:
    world = World(lambda base: MemoryStretch(base, 10_000, 1 << 20))
    for _ in range(1_000):
        world.emit()
    kept = [number for number in range(1_000) if home_of(home_key(message(number)), world.workers) == WORKERS[2]]
    for _ in range(10):
        for place in (0, 1):
            world.send(place)
            world.answer(place)
    assert isinstance(world.last, MemoryStretch)
    world.fan.streams[2].look_ahead()
    world.fan.trim()
    assert len(world.last._queue) == 1_000 - kept[0]
    world.finish()
    assert len(world.last._queue) == 0


def test_a_fan_gives_up_its_oldest_stretch_and_counts_what_nobody_had_read() -> None:
    with TemporaryDirectory() as folder:

        def make(base: int) -> Stretch:
            return Segment(Path(folder) / f"{base:012d}.seg", HEAD, base, 8_192)

        world = World(make)
        while len(list(Path(folder).glob("*.seg"))) < 3:
            world.emit()
        for _ in range(10):
            world.emit()
        for _ in range(20):
            for place in (0, 1):
                world.send(place)
                world.answer(place)
        of_the_third = [n for n in range(world.emitted) if home_of(home_key(message(n)), world.workers) == WORKERS[2]]
        given_up = 0
        while (count := world.fan.give_up_oldest()) or world.fan.chain.may_give_up:
            given_up += count
        assert 0 < given_up < len(of_the_third)
        world.finish()
        assert world.got[WORKERS[2]] == of_the_third[given_up:]
        assert len(world.discarded) == 3  # the start, and two of three segments


@pytest.mark.parametrize("holes", [False, True])
def test_what_was_taken_out_of_memory_can_be_put_back(holes: bool) -> None:
    stretch = MemoryStretch(100, 50, 64 * 1_024)
    sent = [f"{number:02d}".encode() * 1_000 for number in range(30)]
    for raw in sent:
        stretch.append(raw)
    first, second, third = (stretch.read(0, 10, 1 << 20) for _ in range(3))
    stretch.share()
    stretch.put_back(120, third.messages)
    if not holes:
        stretch.put_back(110, second.messages)
    stretch.put_back(100, first.messages)
    assert stretch.end == 130
    found, position = [], 100
    while (piece := stretch.read(position, 7, 1 << 20)).messages:
        found += piece.messages
        position = piece.position
    assert found == [*sent[:10], *([] if holes else sent[10:20]), *sent[20:]]
    assert position == 130
    stretch.settle(130)
    for _ in range(50):  # all of its room is free again
        stretch.append(b"x" * 1_024)
    with pytest.raises(QueueFull):
        stretch.append(b"x")
