"""`runlake up` with the two real processes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.postgres import free_port
from support.processes import Process, wait_until
from support.runlake_command import Command


def _pids(up: Process, child: str) -> list[int]:
    return [line["pid"] for line in up.log if line.get("event") == "started" and line.get("child") == child]


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def _run_of_one_file(command: Command) -> dict[str, Any]:
    tree = command.folder / "tree"
    tree.mkdir(exist_ok=True)
    (tree / "one.py").write_text("x = 1\n")
    said = command("demo", "--tree", str(tree), "--json")
    assert said.returncode == 0, said.stderr
    return dict(json.loads(said.stdout[said.stdout.index("{") :]))


def test_up_starts_both_and_stops_both_with_status_0(tmp_path: Path) -> None:
    command = Command(tmp_path)
    with command.up() as up:
        children = _pids(up, "ingest") + _pids(up, "query")
        assert len(children) == 2
        assert command("doctor").returncode == 0
        assert up.terminate() == 0
        assert not any(_alive(pid) for pid in children)
        assert not any(line["level"] == "error" for line in up.log)


@pytest.mark.parametrize("child", ["ingest", "query"])
def test_a_process_that_is_killed_comes_back_with_everything(child: str, tmp_path: Path) -> None:
    command = Command(tmp_path)
    with command.up() as up:
        _run_of_one_file(command)
        before = json.loads(command("runs", "--json").stdout)
        os.kill(_pids(up, child)[0], signal.SIGKILL)
        wait_until(lambda: len(_pids(up, child)) == 2, f"{child} to be started again")
        serves = {"ingest": "ready", "query": "caught_up"}[child]
        wait_until(lambda: sum(line.get("event") == serves for line in up.log) == 2, f"{child} to serve again")
        listening = [line for line in up.log if line.get("event") == "listening"]
        command.http = listening[-1]["http"]
        assert json.loads(command("runs", "--json").stdout)["runs"] == before["runs"]
        assert _run_of_one_file(command)["equal"]
        assert up.terminate() == 0


def test_both_processes_end_when_up_is_killed(tmp_path: Path) -> None:
    with Command(tmp_path).up() as up:
        children = _pids(up, "ingest") + _pids(up, "query")
        up.kill()
        wait_until(lambda: not any(_alive(pid) for pid in children), "the end of both processes")


def test_a_second_up_on_the_same_folder_says_that_it_is_taken(tmp_path: Path) -> None:
    command = Command(tmp_path)
    with command.up():
        other = Command(tmp_path)
        said = other("up")
        assert said.returncode == 1
        assert "ingest  cannot run (exit status 1)" in said.stdout or "query   cannot run" in said.stdout


def test_ctrl_c_in_a_terminal_stops_everything_once(tmp_path: Path) -> None:
    """A real terminal: the kernel sends SIGINT to the whole foreground group."""
    command = Command(tmp_path)
    leader, follower = pty.openpty()
    up = subprocess.Popen(
        [sys.executable, "-c", _IN_A_SESSION, sys.executable, "-m", "runlake.cli", "up"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=command.environment,
        cwd=tmp_path,
        start_new_session=True,
    )
    os.close(follower)
    try:
        shown = _read_until(leader, "RunLake is ready.")
        os.write(leader, b"\x03")
        shown += _read_until(leader, "up      stopped")
        assert up.wait(60) == 0
        assert shown.count("stopping (SIGINT)") == 1
        assert re.search(r"dashboard +http://127\.0\.0\.1:[1-9]\d*/\s", shown)
        assert "Traceback" not in shown
    finally:
        up.kill()
        up.wait()
        os.close(leader)


_IN_A_SESSION = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def _read_until(terminal: int, words: str) -> str:
    shown = ""
    deadline = time.monotonic() + 60
    while words not in shown:
        assert select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0], shown
        shown += os.read(terminal, 4096).decode()
    return shown


def test_flags_reach_both_processes(tmp_path: Path) -> None:
    command = Command(tmp_path)
    said = command("up", "--flush-interval-ms", "1")
    assert said.returncode == 2
    assert "--flush-interval-ms: '1' cannot be used" in said.stderr
    with Process(
        "runlake.cli", "up", "--json-logs", "--data", str(tmp_path / "elsewhere"), "--refresh-ms", "20",
        env=command.settings, cwd=tmp_path,
    ) as up:  # fmt: skip
        up.wait_for("caught_up")
        wait_until((tmp_path / "elsewhere" / "catalog.sqlite").exists, "the lake")
        assert up.terminate() == 0
    assert not command.data.exists()


def test_scripts_run_says_which_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = Command(tmp_path)
        command.http = f"127.0.0.1:{server.getsockname()[1]}"
        said = _scripts_run(command, "--once")
    assert said.returncode == 1
    assert f"{command.http} cannot be used (another program listens there): set RUNLAKE_HTTP" in said.stderr


def test_scripts_run_records_real_work_and_stops_when_told_to(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "good.py").write_text("def f(): pass\n")
    (tree / "bad.py").write_text("def f(:\n")
    command = Command(tmp_path)
    command.http = f"127.0.0.1:{free_port()}"
    said = _scripts_run(command, "--once", "--tree", str(tree))
    assert said.returncode == 0, said.stdout + said.stderr
    assert "Everything that the agents counted is there." in said.stdout
    assert f"http://{command.http}" in said.stdout
    assert "up      stopped" in said.stdout


def test_scripts_run_goes_on_until_it_is_told_to_stop(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "good.py").write_text("def f(): pass\n")
    command = Command(tmp_path)
    command.http = f"127.0.0.1:{free_port()}"
    log = tmp_path / "log"
    with log.open("w") as out:
        script = subprocess.Popen(
            ["env", "--default-signal=INT", str(_SCRIPTS_RUN), "--tree", str(tree)],
            stdout=out,
            stderr=out,
            env=command.environment,
            cwd=tmp_path,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "RunLake goes on; Ctrl-C stops it." in log.read_text(), "the demo to be done")
        script.send_signal(signal.SIGINT)
        assert script.wait(60) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(script.pid, signal.SIGKILL)
        script.wait()
    shown = log.read_text()
    assert "up      stopped" in shown
    assert not any(_alive(int(pid)) for pid in re.findall(r"started \(pid (\d+)\)", shown))


_SCRIPTS_RUN = Path(__file__).parents[2] / "scripts" / "run"


def _scripts_run(command: Command, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`scripts/run` with an empty home folder."""
    home = command.folder / "home"
    home.mkdir()
    return subprocess.run(
        [str(_SCRIPTS_RUN), *arguments],
        capture_output=True,
        text=True,
        env=command.environment | {"HOME": str(home)},
        cwd=command.folder,
        timeout=120,
        check=False,
    )
