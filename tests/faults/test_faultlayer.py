"""The fault layer does to a real process what it says, so that the tests that rest on it can fail."""

from __future__ import annotations

import errno
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from faults.faultlayer import Calls, FaultLayer, clock_ahead

WRITES = """
import os, sys
os.chdir(sys.argv[1])
def write(name, text, sync):
    with open(name, "a") as file:
        file.write(text)
        file.flush()
        if sync:
            os.fsync(file.fileno())
def sync_folder():
    folder = os.open(".", os.O_RDONLY)
    os.fsync(folder)
write("kept", "synced ", True)
write("removed", "synced", True)
write("renamed.new", "synced", True)
write("empty", "lost", False)
sync_folder()
write("kept", "lost", False)
write("nameless", "synced", True)
os.rename("renamed.new", "renamed")
os.unlink("removed")
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk" / "data"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def layer(disk: Path, tmp_path: Path, fault_layer: Path) -> FaultLayer:
    return FaultLayer(fault_layer, disk.parent, tmp_path / "beside", power=True)


def run(layer: FaultLayer, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=layer.env, capture_output=True, text=True, check=False)


def test_a_loss_of_power_leaves_what_was_fsynced_and_nothing_else(disk: Path, layer: FaultLayer) -> None:
    assert run(layer, WRITES, disk).returncode == -signal.SIGKILL
    inode = (disk / "kept").stat().st_ino
    assert (disk / "kept").read_text() == "synced lost"
    layer.lose_power(random.Random(1), torn=False)
    left = {path.name: path.read_text() for path in disk.iterdir()}
    assert left == {"kept": "synced ", "removed": "synced", "renamed.new": "synced", "empty": ""}
    assert (disk / "kept").stat().st_ino == inode


def test_a_torn_loss_of_power_leaves_some_of_what_was_not_fsynced(tmp_path: Path, fault_layer: Path) -> None:
    found = set()
    for seed in range(12):
        disk = tmp_path / str(seed) / "disk" / "data"
        disk.mkdir(parents=True)
        layer = FaultLayer(fault_layer, disk.parent, tmp_path / str(seed) / "beside", power=True)
        run(layer, WRITES, disk)
        layer.lose_power(random.Random(seed), torn=True)
        text = (disk / "kept").read_text()
        assert text.startswith("synced ")
        found.add((len(text), (disk / "renamed").exists()))
    assert {renamed for _, renamed in found} == {True, False}
    assert len({size for size, _ in found}) > 1


def test_calls_fail_are_slow_and_kill_as_the_rules_say(disk: Path, layer: FaultLayer) -> None:
    write = "import os, sys; f = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); os.write(f, b'x'); os.fsync(f)"
    with layer.failing(Calls.WRITE, "/data/a", errno.ENOSPC, times=1) as rule:
        assert "No space left on device" in run(layer, write, disk / "a").stderr
        assert run(layer, write, disk / "b").returncode == 0
        assert run(layer, write, disk / "a").returncode == 0
        assert rule.hits == 1
    killing = layer.kill(Calls.SYNC, "/data/b", after=1)
    assert [run(layer, write, disk / "b").returncode for _ in range(3)] == [0, -signal.SIGKILL, 0]
    assert killing.hits == 1
    slow = layer.slow(Calls.SYNC, "/data/a", 50)
    assert run(layer, write, disk / "a").returncode == 0
    assert slow.hits == 1


def test_the_wall_clock_jumps_and_the_monotonic_one_does_not(layer: FaultLayer) -> None:
    read = "import time; print(time.time(), time.monotonic())"
    layer.jump_clock(-3_600)
    wall, monotonic = map(float, run(layer, read).stdout.split())
    assert abs(datetime.fromtimestamp(wall, UTC) - datetime.now(UTC) + timedelta(hours=1)) < timedelta(minutes=1)
    again = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True).stdout.split()
    assert 0 <= float(again[1]) - monotonic < 60


def test_the_clock_of_one_process_jumps_and_that_of_a_host_is_always_off(layer: FaultLayer, fault_layer: Path) -> None:
    read = "import os, time; os.write(1, b'%d\\n' % os.getpid()); input(); print(time.time())"
    hour = 3_600.0

    def ahead(env: dict[str, str], *, jumps: bool) -> float:
        with subprocess.Popen(
            [sys.executable, "-c", read], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            rule = layer.jump_clock(hour, pid if jumps else pid + 1)
            said, _ = process.communicate("\n")
            rule.end()
        return float(said) - datetime.now(UTC).timestamp()

    assert abs(ahead(layer.env, jumps=True) - hour) < 60
    assert abs(ahead(layer.env, jumps=False)) < 60
    assert abs(ahead(clock_ahead(fault_layer, -2 * hour), jumps=False) + 2 * hour) < 60
