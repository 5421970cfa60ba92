"""The supervisor of `runlake up`, over small real processes that behave well or badly."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from support.processes import Process, wait_until

_PROGRAM = """
import sys
from runlake.cli.child import Child
from runlake.cli.reporters import JsonReporter
from runlake.cli.supervisor import Supervisor
import os
names = ["ingest", "query"]
children = [Child(name, [sys.executable, "-c", code], os.environ) for name, code in zip(names, sys.argv[2:])]
sys.exit(Supervisor(children, JsonReporter(), float(sys.argv[1])).run())
"""
_SAY = """
import json, signal, sys, time
def say(event, **fields):
    print(json.dumps({"level": "info", "process": "test", "event": event, **fields}), file=sys.stderr, flush=True)
"""
_OBEDIENT = _SAY + "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); say('ready'); signal.pause()"
_OBEDIENT_QUERY = _OBEDIENT.replace("'ready'", "'caught_up'")
_DEAF = _SAY + "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('ready'); signal.pause(); signal.pause()"


def _supervise(tmp_path: Path, *children: str, stop_timeout_s: float = 30) -> Process:
    (tmp_path / "supervised.py").write_text(_PROGRAM)
    return Process("supervised", str(stop_timeout_s), *children, env={"PYTHONPATH": str(tmp_path)})


def _started(up: Process) -> list[int]:
    return [line["pid"] for line in up.log if line.get("event") == "started"]


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


def test_it_stops_obedient_children_and_ends_with_0_at_sigint(tmp_path: Path) -> None:
    with _supervise(tmp_path, _OBEDIENT, _OBEDIENT_QUERY) as up:
        wait_until(lambda: any(line.get("process") == "up" and line["event"] == "ready" for line in up.log), "ready")
        up.send(signal.SIGINT)
        assert up.wait() == 0
        assert all(_is_gone(pid) for pid in _started(up))
        assert up.log[-1]["event"] == "stopped"


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    with _supervise(tmp_path, _OBEDIENT) as up:
        up.wait_for("ready")
        first = _started(up)[0]
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: len(_started(up)) == 2, "a second start")
        assert up.wait_for("died")["code"] == -signal.SIGKILL
        assert up.terminate() == 0


def test_each_restart_waits_longer_than_the_one_before(tmp_path: Path) -> None:
    with _supervise(tmp_path, _SAY + "say('ready'); sys.exit(7)") as up:
        wait_until(lambda: sum(line.get("event") == "died" for line in up.log) >= 3, "three deaths")
        waits = [line["restart_in_s"] for line in up.log if line.get("event") == "died"]
        assert waits[:3] == [0.5, 1.0, 2.0]
        assert up.terminate() == 0


def test_a_child_that_gives_up_before_it_was_ready_stops_everything(tmp_path: Path) -> None:
    broken = _SAY + "say('cannot_run', level='error', reason='the port is taken'); sys.exit(1)"
    with _supervise(tmp_path, broken, _OBEDIENT_QUERY) as up:
        assert up.wait() == 1
        assert up.wait_for("gave_up")["reason"] == "the port is taken"
        assert all(_is_gone(pid) for pid in _started(up))


def test_a_wrong_setting_stops_everything_with_status_2(tmp_path: Path) -> None:
    with _supervise(tmp_path, "import sys; print('no such setting', file=sys.stderr); sys.exit(2)") as up:
        assert up.wait() == 2
        assert up.wait_for("gave_up")["reason"] == "no such setting"


def test_a_deaf_child_is_killed_after_the_bound(tmp_path: Path) -> None:
    with _supervise(tmp_path, _DEAF, stop_timeout_s=0.2) as up:
        up.wait_for("ready")
        up.send(signal.SIGTERM)
        assert up.wait() == 1
        assert up.wait_for("killed")["child"] == "ingest"


def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    with _supervise(tmp_path, _DEAF, stop_timeout_s=3_600) as up:
        up.wait_for("ready")
        up.send(signal.SIGINT)
        up.wait_for("stopping")
        up.send(signal.SIGINT)
        assert up.wait() == 1


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    with _supervise(tmp_path, _OBEDIENT, _OBEDIENT_QUERY) as up:
        wait_until(lambda: any(line.get("process") == "up" and line["event"] == "ready" for line in up.log), "ready")
        children = _started(up)
        up.kill()
        for pid in children:
            wait_until(lambda pid=pid: _is_gone(pid), f"the end of {pid}")  # type: ignore[misc]


def test_ctrl_c_in_the_terminal_reaches_the_supervisor_alone(tmp_path: Path) -> None:
    with _supervise(tmp_path, _OBEDIENT) as up:
        up.wait_for("ready")
        child = _started(up)[0]
        assert os.getpgid(child) == child != os.getpgid(up.pid)
        assert up.terminate() == 0


def test_words_that_are_no_log_line_are_passed_on_whole(tmp_path: Path) -> None:
    chatty = (
        _SAY + "print('half a ', end='', flush=True); print('line'); print('{broken'); say('ready'); signal.pause()"
    )
    with _supervise(tmp_path, "import sys; sys.stdout.reconfigure(line_buffering=True)" + chatty) as up:
        up.wait_for("ready")
        assert [line["line"] for line in up.log if line["event"] == "output"] == ["half a line", "{broken"]
        assert up.terminate() == 0


def test_a_child_that_closes_its_output_is_still_looked_after(tmp_path: Path) -> None:
    silent = _SAY + (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); say('ready')\n"
        "import os; os.close(1); os.close(2); signal.pause()"
    )
    with _supervise(tmp_path, silent) as up:
        up.wait_for("ready")
        os.kill(_started(up)[0], signal.SIGKILL)
        wait_until(lambda: len(_started(up)) == 2, "a second start")
        assert up.terminate() == 0
