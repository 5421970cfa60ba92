"""Too much at once: a lake that is away at full rate, and a producer that floods beside quiet ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import zmq

from faults.faultlayer import Calls
from faults.faults import LAKE
from faults.oracle import judge
from faults.world import DEADLINE_S, Ear, World, accepted
from runlake import wire
from runlake.messages import RunEvent
from support.processes import Process, wait_until
from support.producer import Producer, payload
from support.samples import event, events

_NO_SPACE = 28
_GREEDY_BATCHES = 500
_MIB = 1024 * 1024


def test_p1_memory_stays_bounded_while_the_lake_is_away_at_full_rate_and_it_catches_up(
    make_world: Callable[..., World],
) -> None:
    """The journal takes what its limit allows, and the worker's memory does not grow with what agents have to say."""
    world = make_world()
    limit_mib, messages = (512, 4_000_000) if world.long else (8, 40_000)
    world.flags = ("--flush-interval-ms", "100", "--journal-max-mb", str(limit_mib))
    ingest = world.start_ingest()
    world.start_query()
    ear = Ear(ingest)
    with zmq.Context() as context, context.socket(zmq.DEALER) as greedy:
        greedy.linger = 0
        greedy.sndhwm = 0
        greedy.connect(world.site.ingest_endpoint)
        with world.layer.failing(Calls.WRITE, LAKE, _NO_SPACE):
            world.emit(messages, producers=4)
            ear.wait_for("lake_unavailable")
            begun = resident_mib(ingest)
            ear.wait_for("paused")
            paused = resident_mib(ingest)
            for number in range(1, _GREEDY_BATCHES + 1):
                greedy.send_multipart(batch_of("greedy", number, [event(0, run_id="more", text="x" * 200_000)]))
            assert not greedy.poll(1_000)
            held = resident_mib(ingest)
        print(f"resident: {begun} MiB when the lake went away, {paused} MiB when paused, {held} MiB with more offered")
        assert journal_mib(world) <= limit_mib + 16
        assert held - begun < 64 < _GREEDY_BATCHES * 0.2
        ear.wait_for("lake_available")
        ear.wait_for("resumed")
        world.count_sent(_GREEDY_BATCHES, _GREEDY_BATCHES)
        wait_until(lambda: accepted(world.site) == world.messages, "all is taken in", DEADLINE_S)
    world.finish()


def test_a_flooding_producer_does_not_keep_quiet_ones_waiting(make_world: Callable[..., World]) -> None:
    """Fairness, told in turns and not in seconds: a quiet producer that sends in the midst of a flood is answered
    before most of the flood that was there before it."""
    world = make_world("--flush-interval-ms", "600000")
    world.start_ingest()
    batches = 5_000 if world.long else 600
    with zmq.Context() as context, context.socket(zmq.DEALER) as flood:
        flood.linger = 0
        flood.sndhwm = 0
        flood.connect(world.site.ingest_endpoint)
        with Producer(world.site.ingest_endpoint) as quiet:
            quiet.position()  # it is connected
            for frames in [batch_of("flood", number, events(100)) for number in range(1, batches + 1)]:
                flood.send_multipart(frames)
            before = quiet.deliver(events(1)).first_seq - 1
            print(f"{before:,} of the flood's {100 * batches:,} messages stand before the quiet one")
            assert before < 50 * batches
            wait_until(lambda: quiet.position().durable == 100 * batches + 1, "all is taken in", DEADLINE_S)
    world.stop_ingest()
    judge(world.facts(), 100 * batches + 1)


def batch_of(producer: str, number: int, messages: list[RunEvent]) -> tuple[bytes, bytes]:
    """The frames of a producer's batch, all of whose batches are of one size."""
    count = len(messages)
    header = wire.Batch(producer=producer, batch=number, first=count * (number - 1) + 1, count=count)
    return wire.encode_frame(header), payload(messages)


def resident_mib(process: Process) -> int:
    """How much memory it has (VmRSS)."""
    for line in Path(f"/proc/{process.pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("it has ended")


def journal_mib(world: World) -> float:
    return sum(path.stat().st_size for path in (world.site.data / "ingest" / "journal").iterdir()) / _MIB
