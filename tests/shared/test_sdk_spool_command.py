"""`runlake spool`: shows what agents left behind, delivers it, deletes it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from runlake.spoolorphans import folders
from support.agents import run_agent, start_agent
from support.emitting import numbers
from support.router import Router, ipc

LEAVE = "for n in range(int(arguments[0])): emit(n)\nos.kill(os.getpid(), signal.SIGKILL)"


def spool_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runlake.cli", "spool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_spools_are_listed_sent_and_removed_and_those_in_use_are_left_alone(tmp_path: Path) -> None:
    spool, endpoint = tmp_path / "spool", ipc(tmp_path)
    for count in (7, 5):
        assert run_agent(LEAVE, endpoint, spool, count)[0] == -signal.SIGKILL
    assert run_agent(LEAVE, ipc(tmp_path, "elsewhere"), spool, 3)[0] == -signal.SIGKILL
    with start_agent("emit(0)\nprint('up', flush=True)\nsys.stdin.readline()", ipc(tmp_path, "live"), spool) as agent:
        assert agent.stdout
        assert agent.stdout.readline() == "up\n"
        listed = msgspec.json.decode(spool_command("ls", "--spool", spool).stdout)
        assert sorted((one["messages"], one["in_use"]) for one in listed) == [
            (1, True), (3, False), (5, False), (7, False),
        ]  # fmt: skip
        live = next(one["name"] for one in listed if one["in_use"])

        nobody = spool_command("send", "--spool", spool, "--ingest", endpoint, "--timeout", 0.3)
        assert nobody.returncode == 1
        assert "no worker answers" in nobody.stderr
        with Router(endpoint) as router:
            sent = spool_command("send", "--spool", spool, "--ingest", endpoint)
            assert (sent.returncode, sent.stderr) == (0, "")
            assert "12 messages of 2 spools" in sent.stdout
            assert sorted(numbers(router.messages)) == sorted([*range(7), *range(5)])
            sent = spool_command("send", "--spool", spool, "--ingest", endpoint, "--any")
            assert "3 messages of 1 spools" in sent.stdout

        assert run_agent(LEAVE, endpoint, spool, 2)[0] == -signal.SIGKILL
        assert "in use" in spool_command("rm", "--spool", spool, live).stderr
        assert spool_command("rm", "--spool", spool, "nobody").returncode == 2
        assert spool_command("rm", "--spool", spool).returncode == 2
        assert spool_command("rm", "--spool", spool, "--all").returncode == 0
        assert [folder.name for folder in folders(spool)] == [live]
        agent.kill()
        agent.communicate()


def test_files_that_cannot_be_read_can_be_removed_alone(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    assert run_agent(LEAVE, ipc(tmp_path), spool, 2)[0] == -signal.SIGKILL
    (folder,) = folders(spool)
    (folder / "000000000009.seg.bad").write_bytes(b"?")
    assert spool_command("rm", "--spool", spool, "--bad").returncode == 0
    assert not list(folder.glob("*.bad"))
    assert msgspec.json.decode(spool_command("ls", "--spool", spool).stdout)[0]["messages"] == 2
    (folder / "000000000001.seg").write_bytes(b"garbage")
    with Router(ipc(tmp_path)) as router:
        assert spool_command("send", "--spool", spool, "--ingest", router.endpoint).returncode == 0
    assert spool_command("rm", "--spool", spool, "--bad").returncode == 0
    assert folders(spool) == []


def test_what_cannot_be_read_is_told_by_name_and_the_rest_is_delivered(tmp_path: Path) -> None:
    spool, endpoint = tmp_path / "spool", ipc(tmp_path)
    for count in (7, 5, 3):
        assert run_agent(LEAVE, endpoint, spool, count)[0] == -signal.SIGKILL
    closed, strange, _ = folders(spool)
    (closed / "owner").unlink()
    (closed / "owner").symlink_to(tmp_path)  # as unreadable as another user's, also for root
    (strange / "000000000009.seg").write_bytes(b"garbage")
    with Router(endpoint) as router:
        sent = spool_command("send", "--spool", spool, "--ingest", endpoint)
        assert sorted(numbers(router.messages)) == sorted([*range(5), *range(3)])
    assert sent.returncode == 1
    assert "8 messages of 2 spools were delivered" in sent.stderr
    assert "1 files are no spool's" in sent.stderr
    assert f"1 spools could not be read: {closed.name} (" in sent.stderr
    (tmp_path / "file").touch()
    for action in ("ls", "send"):
        said = spool_command(action, "--spool", tmp_path / "file")
        assert (said.returncode, said.stdout) == (1, "")
        assert "cannot be read" in said.stderr
    assert spool_command("ls", "--spool", tmp_path / "none yet").returncode == 0


def test_a_spool_that_is_off_is_said_to_be(tmp_path: Path) -> None:
    said = spool_command("--spool", "off")
    assert said.returncode == 1
    assert "off" in said.stderr
