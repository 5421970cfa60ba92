"""The spool: what is in it outlives its process, is delivered by another one, and is never trusted."""

from __future__ import annotations

import mmap
import random
import resource
import signal
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runlake import wire
from runlake.emitter import Emitter
from runlake.messages import RunEvent
from runlake.spoolformat import FIRST_AT, HEADER_BYTES, NUMBER, RECORD_HEAD, SegmentHead, checksum, encode_header, walk
from runlake.spoollocation import spool_folder, spool_options
from runlake.spoolorphans import adopt, facts, folders
from support.agents import run_agent, start_agent
from support.emitting import event, numbers
from support.router import Ledger, Received, Router, accept, ack, ipc
from support.spools import segments
from support.waiting import eventually

KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def leave_behind(endpoint: str, spool: Path, count: int) -> None:
    """A killed agent's spool with the messages 0, 1, 2 …"""
    program = f"for n in range({count}): emit(n)\n{KILL}"
    status, _, errors = run_agent(program, endpoint, spool)
    assert (status, errors) == (-signal.SIGKILL, "")


def deliver_all(router: Router, spool: Path) -> Emitter:
    """A later process's emitter, once it has delivered all that it found."""
    emitter = Emitter(router.endpoint, spool=spool)
    emitter.emit(event(-1))
    assert emitter.flush()
    eventually(lambda: len({path.parent for path in segments(spool)}) == 1)  # its own
    return emitter


# Emitted survives the agent


def test_p7_what_was_emitted_before_a_kill_9_is_delivered_by_a_later_process(tmp_path: Path, spool: Path) -> None:
    leave_behind(ipc(tmp_path), spool, 700)
    with Router(ipc(tmp_path)) as router:
        emitter = deliver_all(router, spool)
        found = [received for received in router.received if received.header.producer != emitter.stats().producer]
        assert [n for received in found for n in numbers(received.messages)] == list(range(700))
        first = 1
        for header, _ in found:  # in the numbers of its producer, so that its books have no gap
            assert header.producer == found[0].header.producer
            assert header.first == first
            first += header.count
        assert emitter.stats().adopted == 700
        assert emitter.stats().acknowledged == 1
        assert emitter.close()
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("seed", range(3))
def test_p7_every_emit_that_returned_before_a_kill_9_at_any_moment_is_delivered_once(
    tmp_path: Path, spool: Path, seed: int
) -> None:
    progress = tmp_path / "progress"
    progress.write_bytes(bytes(8))
    program = """
import mmap
progress = mmap.mmap(os.open(arguments[0], os.O_RDWR), 8)
n = 0
while True:
    emit(n)
    n += 1
    progress[:] = n.to_bytes(8, "little")  # so many have returned
"""
    ledger = Ledger()
    least = random.Random(seed).randrange(1, 10_000)
    with Router(ipc(tmp_path), lambda received: [ledger.accept(received)]) as router:
        with start_agent(program, router.endpoint, spool, progress) as agent, progress.open("rb") as file:
            returned = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
            eventually(lambda: int.from_bytes(returned[:], "little") >= least)
            agent.kill()
            agent.communicate()
            count = int.from_bytes(returned[:], "little")
        emitter = deliver_all(router, spool)
        assert emitter.close()
    arrived = [n for n in numbers(ledger.messages) if n >= 0]
    assert arrived == list(range(len(arrived)))
    assert count <= len(arrived) <= count + 1  # the kill may have come between the append and its return


def test_a_spool_that_is_delivered_is_trimmed_and_removed_when_the_emitter_closes(tmp_path: Path, spool: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        for number in range(40_000):
            emitter.emit(event(number))
        assert emitter.flush(30)
        eventually(lambda: len(segments(spool)) <= 2)
        assert emitter.stats().spooled == 40_000
        assert emitter.close()
        assert numbers(router.messages) == list(range(40_000))
    assert list(spool.iterdir()) == []


def test_a_segment_that_was_made_ahead_goes_with_the_emitter(tmp_path: Path, spool: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        for number in range(500):
            emitter.emit(event(number, text="x" * 250))  # more than half of the first segment
        eventually(lambda: len(segments(spool)) == 2)
        assert emitter.close(10)
        assert numbers(router.messages) == list(range(500))
    assert list(spool.iterdir()) == []


def test_what_close_leaves_is_in_the_spool_and_the_acknowledged_is_not_sent_again(tmp_path: Path, spool: Path) -> None:
    def script(received: Received) -> list[object]:
        return [ack(received.header)] if received.header.first <= 10 else []

    with Router(ipc(tmp_path), script) as router:  # type: ignore[arg-type]
        emitter = Emitter(router.endpoint, spool=spool)
        for number in range(10):
            emitter.emit(event(number))
        assert emitter.flush()
        for number in range(10, 30):
            emitter.emit(event(number))
        assert not emitter.flush(0.1)
        assert not emitter.close(0)
        assert (emitter.stats().queued, emitter.stats().dropped) == (20, {})
    (folder,) = folders(spool)
    assert (facts(folder).messages, facts(folder).owned) == (20, False)
    assert sum(path.stat().st_size for path in segments(spool)) < 8_192  # the room behind them is given back
    with Router(ipc(tmp_path)) as router:
        later = deliver_all(router, spool)
        assert [n for n in numbers(router.messages) if n >= 0] == list(range(10, 30))
        assert next(r.header.first for r in router.received if numbers(r.messages)[0] == 10) == 11
        assert later.close()


def test_a_process_that_dies_while_it_delivers_for_another_leaves_the_rest(tmp_path: Path, spool: Path) -> None:
    leave_behind(ipc(tmp_path), spool, 3_000)
    answered = 0

    def script(received: Received) -> list[object]:
        nonlocal answered
        answered += received.header.count
        return [ack(received.header)] if answered <= 1_200 else []

    with Router(ipc(tmp_path), script) as router:  # type: ignore[arg-type]
        program = "emit(-1)\nassert runlake.flush()\nprint('up', flush=True)\nsys.stdin.readline()"
        with start_agent(program, router.endpoint, spool) as agent:
            assert agent.stdout
            assert agent.stdout.readline() == "up\n"
            eventually(lambda: answered > 1_200)
            agent.kill()
            agent.communicate()
        received = len(router.received)
        assert received > 2
    with Router(ipc(tmp_path)) as second:
        emitter = deliver_all(second, spool)
        again = [n for n in numbers(second.messages) if n >= 0]
        assert again == list(range(3_000 - len(again), 3_000))
        assert 1_500 <= len(again) < 3_000
        assert emitter.close()


def test_messages_for_another_endpoint_are_not_taken(tmp_path: Path, spool: Path) -> None:
    leave_behind(ipc(tmp_path, "elsewhere"), spool, 5)
    leave_behind(ipc(tmp_path), spool, 3)
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        emitter.emit(event(-1))
        assert emitter.flush()
        eventually(lambda: emitter.stats().adopted == 3)
        assert emitter.close()
        assert sorted(numbers(router.messages)) == [-1, 0, 1, 2]
    (folder,) = folders(spool)
    assert (facts(folder).messages, facts(folder).endpoint) == (5, ipc(tmp_path, "elsewhere"))


def test_a_spool_whose_owner_lives_is_left_alone(tmp_path: Path, spool: Path) -> None:
    program = "for n in range(5): emit(n)\nprint('up', flush=True)\nsys.stdin.readline()"
    with start_agent(program, ipc(tmp_path, "elsewhere"), spool) as agent:
        assert agent.stdout
        assert agent.stdout.readline() == "up\n"
        (folder,) = folders(spool)
        assert adopt(folder) is None
        assert facts(folder).owned
        agent.kill()
        agent.communicate()
        orphan = adopt(folder)
        assert orphan is not None
        orphan.close()
    assert facts(folder).messages == 5


# What is found there is not trusted


def test_a_torn_last_record_is_recognised_and_what_came_before_is_delivered(tmp_path: Path, spool: Path) -> None:
    leave_behind(ipc(tmp_path), spool, 20)
    (path,) = segments(spool)
    data = bytearray(path.read_bytes())
    last_start, last_end, _ = list(walk(bytes(data)))[-1]
    data[last_start + 20 : last_end] = bytes(last_end - last_start - 20)
    path.write_bytes(data)
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        emitter.emit(event(-1))
        eventually(lambda: path.with_name(f"{path.name}.bad").exists())
        assert emitter.close()
        assert [n for n in numbers(router.messages) if n >= 0] == list(range(19))


def test_a_damaged_record_between_others_costs_itself_alone_and_leaves_a_gap(tmp_path: Path, spool: Path) -> None:
    leave_behind(ipc(tmp_path), spool, 20)
    (path,) = segments(spool)
    data = bytearray(path.read_bytes())
    _, end, _ = list(walk(bytes(data)))[7]
    data[end - 3] ^= 0xFF
    path.write_bytes(data)
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        emitter.emit(event(-1))
        eventually(lambda: path.with_name(f"{path.name}.bad").exists())
        assert emitter.close()
        found = [received for received in router.received if numbers(received.messages) != [-1]]
        assert [n for received in found for n in numbers(received.messages)] == [n for n in range(20) if n != 7]
        assert [(received.header.first, received.header.count) for received in found] == [(1, 7), (9, 12)]


@pytest.mark.parametrize("kind", ["garbage", "foreign", "cut"])
def test_files_that_cannot_be_read_are_set_aside_and_harm_nobody(tmp_path: Path, spool: Path, kind: str) -> None:
    leave_behind(ipc(tmp_path), spool, 5)
    (path,) = segments(spool)
    data = path.read_bytes()
    bad = path.with_name("000000000000.seg")
    bad.write_bytes(
        {
            "garbage": random.Random(1).randbytes(5_000),
            "foreign": data[:8] + b"\x63\x00" + data[10:],
            "cut": data[:100],
        }[kind]
    )
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        emitter.emit(event(-1))
        eventually(lambda: emitter.stats().adopted == 5)
        assert emitter.close()
        assert [n for n in numbers(router.messages) if n >= 0] == list(range(5))
    assert [file.name for file in spool.glob("*/*") if file.name != "owner"] == ["000000000000.seg.bad"]


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=30),
    st.integers(0, 2**32),
    st.sampled_from(["cut", "flip", "none"]),
)
def test_whatever_happened_to_a_segment_its_sound_records_are_found_in_order(
    messages: list[bytes], seed: int, harm: str
) -> None:
    head = SegmentHead(producer="p", endpoint="tcp://127.0.0.1:1", ticket=1)
    records = b"".join(RECORD_HEAD.pack(len(message), checksum(message)) + message for message in messages)
    data = bytearray(encode_header(head, 1) + records + bytes(500))
    at = HEADER_BYTES + random.Random(seed).randrange(len(records) or 1)
    if harm == "cut":
        data[at:] = bytes(len(data) - at)
    elif harm == "flip":
        data[at] ^= 1 << (seed % 8)
    found = [bytes(data[start + 8 : end]) for start, end, sound in walk(bytes(data)) if sound]
    rest = iter(messages)
    assert all(message in rest for message in found)  # a subsequence
    if harm == "none":
        assert found == messages
        assert all(sound for _, _, sound in walk(bytes(data)))


# Bounds


def test_p6_a_full_spool_refuses_new_messages_and_counts_them(tmp_path: Path, spool: Path) -> None:
    emitter = Emitter(ipc(tmp_path), spool=spool, spool_max_mb=2)
    for number in range(1_000):
        emitter.emit(event(number, text="x" * 10_000))
    assert sum(path.stat().st_size for path in segments(spool)) <= 2 * 1024 * 1024
    refused = emitter.stats().dropped["spool_full"]
    assert 800 < refused < 900
    with Router(ipc(tmp_path)) as router:
        assert emitter.flush()
        arrived = numbers(router.messages)
        assert arrived == sorted(set(arrived))
        assert len(arrived) == 1_000 - refused
        emitter.emit(event(5_000))  # there is room again
        assert emitter.close()
        assert numbers(router.messages)[-1] == 5_000


def test_p6_a_full_spool_drops_its_oldest_messages_and_counts_them_when_told_to(tmp_path: Path, spool: Path) -> None:
    emitter = Emitter(ipc(tmp_path), spool=spool, spool_max_mb=2, spool_full="drop-oldest")
    for number in range(1_000):
        eventually(lambda: emitter.emit(event(number, text="x" * 10_000)))  # noqa: B023 (the sender makes room)
    used = 0
    for path in segments(spool):
        with suppress(FileNotFoundError):  # room was made
            used += path.stat().st_size
    assert used <= 2 * 1024 * 1024
    with Router(ipc(tmp_path)) as router:
        assert emitter.flush()
        stats = emitter.stats()
        arrived = numbers(router.messages)
        assert arrived[-1] == 999
        assert stats.emitted == len(arrived) + sum(stats.dropped.values())
        assert stats.dropped["displaced"] > 700
        last = router.received[-1].header
        assert last.first + last.count - 1 == stats.emitted - stats.dropped.get("spool_full", 0)  # a gap, and no less
        assert emitter.close()


def test_a_message_larger_than_a_segment_has_one_of_its_own(tmp_path: Path, spool: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        for number in range(6):
            emitter.emit(event(number, text="x" * (900_000 if number % 2 else 10)))
        assert emitter.close(10)
        assert numbers(router.messages) == list(range(6))
        assert emitter.stats().spooled == 6


# Disks that do not do


def test_p6_a_folder_that_cannot_be_written_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=tmp_path / "file" / "spool")
        for number in range(1_000):
            emitter.emit(event(number))
        assert emitter.close()
        assert numbers(router.messages) == list(range(1_000))
        stats = emitter.stats()
        assert (stats.spooled, stats.dropped) == (0, {})
    assert sum("kept in memory" in record.message for record in caplog.records) == 1


def test_p6_a_disk_that_fills_up_and_gets_room_again_loses_nothing(
    tmp_path: Path, spool: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runlake.intake.RETRY_S", 0.0)
    emitter = Emitter(ipc(tmp_path), spool=spool)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    emitter.emit(event(0))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # no file may be larger: posix_fallocate fails
        for number in range(1, 4_000):
            emitter.emit(event(number, text="x" * 200))
        stats = emitter.stats()
        assert 0 < stats.spooled < 4_000
        eventually(lambda: any("kept in memory" in record.message for record in caplog.records))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    before = emitter.stats().spooled
    eventually(lambda: len(segments(spool)) > 1)
    for number in range(4_000, 6_000):
        emitter.emit(event(number))
    assert emitter.stats().spooled > before
    with Router(ipc(tmp_path)) as router:
        assert emitter.flush()
        assert numbers(router.messages) == list(range(6_000))
        assert emitter.close()
    assert list(spool.iterdir()) == []


# Where it is


def test_the_default_folder_follows_the_base_directory_rule() -> None:
    assert spool_folder(None, {"XDG_STATE_HOME": "/state"}) == Path("/state/runlake/spool")
    assert spool_folder(None, {"XDG_STATE_HOME": "relative"}) == Path.home() / ".local/state/runlake/spool"
    assert spool_folder(None, {"RUNLAKE_SPOOL": "/there"}) == Path("/there")
    assert spool_folder("/here", {"RUNLAKE_SPOOL": "/there"}) == Path("/here")
    assert spool_folder("off", {"RUNLAKE_SPOOL": "/there"}) is None
    assert spool_folder(None, {"RUNLAKE_SPOOL": "off"}) is None


def test_without_a_home_folder_memory_is_used_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runlake.spoollocation.os.path.expanduser", lambda path: path)  # as it does for nobody's home
    options = spool_options(None, None, None, {})
    assert options.root is None
    assert "home" in options.warnings[0]


def test_variables_that_cannot_be_used_are_told_and_arguments_refused() -> None:
    options = spool_options("off", None, None, {"RUNLAKE_SPOOL_MAX_MB": "much", "RUNLAKE_SPOOL_FULL": "explode"})
    assert (options.max_bytes, options.full, len(options.warnings)) == (512 * 1024 * 1024, "refuse", 2)
    with pytest.raises(ValueError, match="drop-oldest"):
        spool_options("off", None, "explode", {})


def test_only_the_user_may_look_into_a_spool(tmp_path: Path, spool: Path) -> None:
    emitter = Emitter(ipc(tmp_path), spool=spool)
    emitter.emit(event(1))
    emitter.close(0)
    assert [path.stat().st_mode & 0o077 for path in (spool, *spool.rglob("*"))] == [0] * 4


# Receipts


def test_a_ticket_is_delivered_when_all_before_it_is_and_needs_nothing_after_it(tmp_path: Path, spool: Path) -> None:
    def script(received: Received) -> list[object]:
        return [ack(received.header)] if received.header.batch == 1 else []

    with Router(ipc(tmp_path), script) as router:  # type: ignore[arg-type]
        emitter = Emitter(router.endpoint, spool=spool, interval_ms=1)
        assert emitter.delivered(emitter.last_number(), 0)
        assert emitter.emit(event(1)) is True
        first = emitter.last_number()
        assert emitter.delivered(first, 10)
        emitter.emit(event(2))
        second = emitter.last_number()
        assert second > first
        assert not emitter.delivered(second, 0.05)
        assert emitter.delivered(first, 10)
        emitter.close(0)
        assert not emitter.delivered(second, 10)
        assert emitter.emit(event(3)) is False


async def test_a_ticket_can_be_awaited_and_a_worker_that_comes_later_answers_it(tmp_path: Path, spool: Path) -> None:
    emitter = Emitter(ipc(tmp_path), spool=spool)
    assert await emitter.delivered_async(emitter.last_number(), 0)
    emitter.emit(event(1))
    number = emitter.last_number()
    assert not await emitter.delivered_async(number, 0.05)
    with Router(ipc(tmp_path), accept):
        assert await emitter.delivered_async(number, 10)
        assert emitter.close()
    assert await emitter.delivered_async(number, 10)


def first_number(spool: Path) -> int:
    """The number of the oldest message there, as its segment says it; 0 while there is none."""
    with suppress(FileNotFoundError):
        for path in segments(spool):
            return int(NUMBER.unpack_from(path.read_bytes(), FIRST_AT)[0])
    return 0


def test_the_number_of_the_first_message_is_known_also_when_earlier_segments_are_gone(
    tmp_path: Path, spool: Path
) -> None:
    program = """
for n in range(1_500): emit([n, "x" * 300])
print("half", flush=True)
assert runlake.flush(30)
os.kill(os.getpid(), signal.SIGKILL)
"""
    stop_after = 1_000

    def script(received: Received) -> list[object]:
        return [ack(received.header)] if received.header.first <= stop_after else []

    with Router(ipc(tmp_path), script) as router:  # type: ignore[arg-type]
        with start_agent(program, router.endpoint, spool) as agent:
            eventually(lambda: len(router.received) > 2 and router.received[-1].header.first > stop_after)
            eventually(lambda: first_number(spool) > 1)  # what came before is trimmed
            agent.kill()
            agent.communicate()
        acknowledged = [r.header for r in router.received if r.header.first <= stop_after][-1]
    with Router(ipc(tmp_path)) as second:
        emitter = deliver_all(second, spool)
        found = [received for received in second.received if received.header.producer == acknowledged.producer]
        assert found[0].header.first >= acknowledged.first
        for header, payload in found:
            message = wire.decode_payload(payload)[0]
            assert isinstance(message, RunEvent)
            assert message.payload
            assert header.first == message.payload["n"][0] + 1
        assert emitter.close()


def test_a_damaged_name_or_a_stray_file_in_the_spool_is_passed_over(tmp_path: Path, spool: Path) -> None:
    spool.mkdir()
    (spool / "notes.txt").write_text("mine")
    (spool / f"empty-{uuid4()}").mkdir()
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        emitter.emit(event(1))
        assert emitter.close()
        assert numbers(router.messages) == [1]
    assert (spool / "notes.txt").read_text() == "mine"
