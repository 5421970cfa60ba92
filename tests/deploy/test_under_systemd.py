"""Both units under a real systemd: confined as they are, they start, serve, are watched over, and stop."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.processes import wait_until
from support.systemd import Systemd, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "systemd")

_UNITS = ("runlake-ingest", "runlake-query")
_WATCHDOG = "[Service]\nWatchdogSec=5\nRestartSec=100ms\n"
_SEEN = "[Service]\nProtectHome=no\nPrivateTmp=no\n"
"""The tests' own interpreter may be below /root or /tmp, which the units rightly do not see."""
_RECORD = """
import os
os.environ["XDG_STATE_HOME"] = "/run/agent"
import runlake
with runlake.track_run("agent", "job", run_id="under-systemd"):
    pass
assert runlake.flush(30), runlake.stats()
"""


def _runlake(systemd: Systemd, *arguments: str) -> str:
    return systemd.ok(sys.executable, "-m", "runlake.cli", *arguments)


def _add(systemd: Systemd, unit: str, name: str, text: str) -> None:
    folder = f"/etc/systemd/system/{unit}.service.d"
    systemd.ok("sh", "-c", 'mkdir -p "$0" && printf %s "$1" > "$0/$2.conf"', folder, text, name)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    with Systemd(tmp_path / "log") as systemd:
        _runlake(systemd, "init", "--system", "--python", sys.executable)
        systemd.ok("systemd-sysusers")
        for unit in _UNITS:
            _add(systemd, unit, "seen", _SEEN)
        _add(systemd, "runlake-query", "watchdog", _WATCHDOG)
        systemd.ok("systemctl", "daemon-reload")
        yield systemd


def test_both_units_start_serve_are_restarted_when_they_hang_and_stop(systemd: Systemd) -> None:
    systemd.ok("systemctl", "start", *_UNITS)  # it returns when both have said that they are ready
    assert systemd.shows("runlake-ingest", "StatusText").startswith("Taking in messages at tcp://127.0.0.1:")
    wait_until(lambda: systemd.shows("runlake-query", "StatusText") == "In step with the lake", "query to follow")
    _runlake(systemd, "probe", "ingest")
    _runlake(systemd, "probe", "query")
    systemd.ok(sys.executable, "-c", _RECORD)
    wait_until(lambda: "under-systemd" in _runlake(systemd, "runs", "--json"), "the run to be seen")
    modes = systemd.ok("stat", "--format", "%U:%G %a", "/var/lib/runlake", "/var/lib/runlake-query").splitlines()
    assert modes == ["runlake-ingest:runlake 750", "runlake-query:runlake 700"]

    hanging = systemd.shows("runlake-query", "MainPID")
    systemd.ok("kill", "-STOP", hanging)
    wait_until(lambda: systemd.shows("runlake-query", "NRestarts") == "1", "query to be restarted")
    wait_until(lambda: systemd.shows("runlake-query", "ActiveState") == "active", "query to be ready again")
    assert systemd.shows("runlake-query", "MainPID") != hanging

    systemd.ok("systemctl", "stop", *_UNITS)
    for unit in _UNITS:
        assert (systemd.shows(unit, "Result"), systemd.shows(unit, "ExecMainStatus")) == ("success", "0")
    assert systemd.shows("runlake-ingest", "NRestarts") == "0"
