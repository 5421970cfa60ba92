"""The spool among strangers: what others put into its folder, take away, hold, or do at the same moment."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from runlake.adoption import Adoption
from runlake.emitter import Emitter
from runlake.intake import Intake
from runlake.notices import Notices
from runlake.spoolfolder import FIRST_SEGMENT_BYTES, SpoolFolder
from runlake.spoolorphans import adopt, facts, folders
from runlake.spoolreader import Reader
from runlake.stretch import Start
from support.agents import run_agent, start_agent
from support.emitting import event, numbers
from support.router import Ledger, Received, Router, ipc
from support.waiting import eventually

KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def leave_behind(endpoint: str, spool: Path, count: int, begin: int = 0, chars: int = 0) -> None:
    """A killed agent's spool."""
    run_agent(f"for n in range({begin}, {begin + count}): emit([n, 'x' * {chars}])\n{KILL}", endpoint, spool)


def found(messages: Sequence[object]) -> list[int]:
    """The numbers of those that were left behind."""
    return [number[0] for number in messages if isinstance(number, list)]


# Foreign files


@pytest.mark.parametrize("kind", ["pipe", "link", "dangling link", "folder", "socket", "huge"])
def test_p6_what_is_no_file_of_ours_holds_up_nothing(tmp_path: Path, spool: Path, kind: str) -> None:
    leave_behind(ipc(tmp_path), spool, 5)
    stranger = next(spool.glob("*/*.seg")).with_name("000000000000.seg")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    match kind:
        case "pipe":
            os.mkfifo(stranger)
        case "link":
            stranger.symlink_to(elsewhere)
        case "dangling link":
            stranger.symlink_to(tmp_path / "nowhere")
        case "folder":
            stranger.mkdir()
        case "socket":
            os.mknod(stranger, 0o140600)
        case "huge":
            stranger.touch()
            os.truncate(stranger, 1 << 40)
    assert facts(stranger.parent).messages == 5
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        emitter.emit(event(-1))
        eventually(lambda: emitter.stats().adopted == 5)
        emitter.emit(event(-2))
        assert emitter.flush()
        assert emitter.close()
        assert found(numbers(router.messages)) == list(range(5))
    assert elsewhere.read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()
    assert [path.name for path in spool.glob("*/*") if path.name != "owner"] == ["000000000000.seg.bad"]


@pytest.mark.parametrize("kind", ["folder", "lock"])
def test_links_to_folders_elsewhere_are_not_followed(tmp_path: Path, spool: Path, kind: str) -> None:
    other = tmp_path / "other"
    leave_behind(ipc(tmp_path), other, 5)
    (left,) = folders(other)
    spool.mkdir()
    if kind == "folder":
        (spool / "stranger").symlink_to(left)
    else:
        (left / "owner").unlink()
        (left / "owner").symlink_to(tmp_path / "made")
        left.rename(spool / "stranger")
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        for number in range(3):
            emitter.emit(event(number))
            assert emitter.flush()
        eventually(lambda: emitter._sender.adoption and emitter._sender.adoption.idle)  # it has looked
        assert emitter.close()
        assert numbers(router.messages) == [0, 1, 2]
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("size", [0, 256 * 1024])
def test_a_segment_that_a_kill_left_unbegun_is_cleared_away(tmp_path: Path, spool: Path, size: int) -> None:
    leave_behind(ipc(tmp_path), spool, 5)
    next(spool.glob("*/*.seg")).with_name("000000000009.seg").write_bytes(bytes(size))
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        emitter.emit(event(-1))
        eventually(lambda: len(folders(spool)) == 1)  # its own
        assert emitter.close()
        assert found(numbers(router.messages)) == list(range(5))
    assert list(spool.iterdir()) == []


# What others take away, and hold


def test_p7_a_spool_that_was_deleted_under_a_running_agent_is_made_anew(tmp_path: Path, spool: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        emitter.emit(event(0))
        assert emitter.flush()
        shutil.rmtree(spool)
        for number in range(1, 6_000):
            emitter.emit(event(number, text="x" * 200))
        assert (emitter.stats().spooled, emitter.stats().dropped) == (6_000, {})
        assert len(folders(spool)) == 1
        assert emitter.close(10)
        assert numbers(router.messages) == list(range(6_000))
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("held_kib", [700, 5_000])
def test_p6_what_others_hold_of_the_spool_stops_nobody_whose_worker_answers(
    tmp_path: Path, spool: Path, held_kib: int
) -> None:
    old = spool / "some-old-one"
    old.mkdir(parents=True)
    (old / "000000000001.seg.bad").write_bytes(bytes(held_kib * 1024))
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool, spool_max_mb=1)
        for number in range(0, 4_000, 200):
            for each in range(number, number + 200):
                emitter.emit(event(each, text="x" * 200))
            assert emitter.flush()
        assert emitter.stats().dropped == {}
        assert emitter.close()
        assert numbers(router.messages) == list(range(4_000))


def test_p6_agents_share_the_room_of_a_spool_and_go_beyond_it_by_two_small_segments_each(spool: Path) -> None:
    limit = 4 * 2**20
    notices = Notices()
    agents = []
    for name in "abc":
        folder = SpoolFolder(spool, name, "tcp://127.0.0.1:1", limit)
        agents.append((folder, Adoption(spool, None, Random()), Intake(Start(), 1, 0, folder, notices)))
    taken = True
    while taken:
        taken = False
        for folder, adoption, intake in agents:
            taken = intake.put(b"x" * 10_000) or taken

            def measure(folder: SpoolFolder = folder, adoption: Adoption = adoption) -> None:
                folder.others_bytes = adoption.others_bytes(folder.folder)

            intake.prepare(measure)
    used = [folder.used_bytes for folder, _, _ in agents]
    assert sum(used) <= limit + len(agents) * 2 * FIRST_SEGMENT_BYTES
    assert min(used) >= 2 * FIRST_SEGMENT_BYTES
    for folder, _, _ in agents:
        folder.release(folder.detach())


def test_p6_a_message_that_fills_the_spool_makes_room_when_it_is_delivered(tmp_path: Path, spool: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=spool, spool_max_mb=1)
        assert emitter.emit(event(0, a="x" * 250_000, b="x" * 250_000, c="x" * 250_000, d="x" * 200_000))
        assert emitter.flush()
        eventually(lambda: emitter.emit(event(1, text="x" * 100_000)))
        assert emitter.close()
        assert numbers(router.messages) == [0, 1]


def test_p7_a_segment_that_could_not_be_read_is_kept_for_another_time(tmp_path: Path, spool: Path) -> None:
    leave_behind(ipc(tmp_path), spool, 3_000, chars=300)
    (folder,) = folders(spool)
    orphan = adopt(folder)
    assert orphan is not None
    second = orphan.segments[1].path
    reader = Reader(orphan.segments[0], 1, lambda _: None)
    taken: list[bytes] = []
    second.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        while (piece := reader.take(500, 1 << 20)) is not None:
            taken += piece.messages
    (tmp_path / "away").rename(second)
    orphan.segments[1].discard()
    assert second.exists()  # nobody has seen what is in it
    while (piece := reader.take(500, 1 << 20)) is not None:
        assert piece.first == len(taken) + 1
        taken += piece.messages
    assert len(taken) == 3_000
    orphan.close()


def test_p6_an_agent_that_can_open_no_file_leaves_what_others_left_and_delivers_its_own(
    tmp_path: Path, spool: Path
) -> None:
    leave_behind(ipc(tmp_path), spool, 3_000, chars=300)
    program = """
import resource, time
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
emit(-1)
assert runlake.flush()
print("up", flush=True)
sys.stdin.readline()
top = max(map(int, os.listdir("/proc/self/fd"))) + 1
resource.setrlimit(resource.RLIMIT_NOFILE, (max(top, 16), limits[1]))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass  # nothing more can be opened
print("low", flush=True)
end = time.monotonic() + 20
while not runlake.stats().adopted and time.monotonic() < end:
    threading.Event().wait(0.01)
emit(-2)
assert runlake.flush()
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
for descriptor in taken:
    os.close(descriptor)
assert runlake.close()
"""
    asked, answer, ledger = threading.Event(), threading.Event(), Ledger()

    def script(received: Received) -> list[object]:
        if received.header.count > 1 and not answer.is_set():
            asked.set()
            assert answer.wait(20)
        return [ledger.accept(received)]

    with (
        Router(ipc(tmp_path), script) as router,  # type: ignore[arg-type]
        start_agent(program, router.endpoint, spool) as agent,
    ):
        assert agent.stdout
        assert agent.stdin
        assert agent.stdout.readline() == "up\n"
        assert asked.wait(20)
        agent.stdin.write("go\n")
        agent.stdin.flush()
        assert agent.stdout.readline() == "low\n"
        answer.set()
        _, errors = agent.communicate(timeout=60)
        assert (agent.returncode, errors) == (0, "")
    assert 0 < len(found(numbers(ledger.messages))) < 3_000
    with Router(ipc(tmp_path), lambda received: [ledger.accept(received)]) as router:
        emitter = Emitter(router.endpoint, spool=spool)
        emitter.emit(event(-1))
        eventually(lambda: len(folders(spool)) == 1)  # its own
        assert emitter.close()
    assert found(numbers(ledger.messages)) == list(range(3_000))


# At the same moment


def test_p7_agents_that_start_at_once_share_what_was_left_behind_and_send_nothing_twice(
    tmp_path: Path, spool: Path
) -> None:
    for begin in range(0, 1_800, 600):
        leave_behind(ipc(tmp_path), spool, 600, begin)
    ledger, batches = Ledger(), Counter[tuple[str, int]]()

    def script(received: Received) -> list[object]:
        batches[received.header.producer, received.header.first] += 1
        return [ledger.accept(received)]

    program = "sys.stdin.readline()\nemit(-1)\nassert runlake.flush()\nprint('up', flush=True)\nsys.stdin.readline()"
    with Router(ipc(tmp_path), script) as router:  # type: ignore[arg-type]
        agents = [start_agent(program, router.endpoint, spool) for _ in range(4)]
        for agent in agents:
            assert agent.stdin
            agent.stdin.write("go\n")
            agent.stdin.flush()
        eventually(lambda: len(found(numbers(ledger.messages))) == 1_800)
        for agent in agents:
            _, errors = agent.communicate("end\n", timeout=60)
            assert (agent.returncode, errors) == (0, "")
    assert sorted(found(numbers(ledger.messages))) == list(range(1_800))
    assert set(batches.values()) == {1}
    assert list(spool.iterdir()) == []


# Disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 700 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", folder], capture_output=True, check=False, timeout=20
    )
    if done.returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True, timeout=20)


def test_p6_on_a_full_disk_the_rest_is_kept_in_memory_with_one_warning(
    tmp_path: Path, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=disk / "spool")
        for number in range(8_000):
            emitter.emit(event(number, text="x" * 200))
        assert emitter.close(10)
        assert numbers(router.messages) == list(range(8_000))
        stats = emitter.stats()
        assert 0 < stats.spooled < 8_000
        assert (stats.acknowledged, stats.dropped) == (8_000, {})
    assert sum("kept in memory" in record.message for record in caplog.records) == 1


def test_p6_on_a_disk_that_is_read_only_agents_deliver_from_memory(tmp_path: Path, disk: Path) -> None:
    leave_behind(ipc(tmp_path), disk / "spool", 5)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True, timeout=20)
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=disk / "spool")
        for number in range(100):
            emitter.emit(event(number))
        assert emitter.flush()
        stats = emitter.stats()
        assert (stats.spooled, stats.acknowledged, stats.dropped, stats.protocol_errors) == (0, 100, {}, 0)
        assert emitter.close()
    assert sum(facts(folder).messages for folder in folders(disk / "spool")) == 5
