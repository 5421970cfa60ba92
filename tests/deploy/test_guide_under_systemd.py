"""The guide to one machine, line by line under a real systemd. Not run are the lines that install RunLake and remove it
again, and one that never ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.guide import Step, section, steps
from support.processes import wait_until
from support.systemd import Systemd, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "systemd")

_RUNLAKE = f"{sys.executable} -m runlake.cli"
_SEEN = "[Service]\nProtectHome=no\nPrivateTmp=no\n"
"""The tests' own interpreter may be below /root or /tmp, which the units rightly do not see."""
_LEFT_OUT = ("python3 -m venv", "/opt/runlake/bin/pip", "ln -s", "rm -r", "journalctl", "systemd-analyze")


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    with Systemd(tmp_path / "log") as systemd:
        systemd.ok("mount", "--make-rshared", "/")  # as on a machine that booted it: credentials are mounted
        systemd.ok("ip", "link", "set", "lo", "up")
        for unit in ("ingest", "query"):
            folder = f"/etc/systemd/system/runlake-{unit}.service.d"
            systemd.ok("sh", "-ec", 'mkdir -p "$0"; printf %s "$1" > "$0/seen.conf"', folder, _SEEN)
        yield systemd


def follow(systemd: Systemd, step: Step, token: str = "") -> str:
    """One line of the guide. What it writes is in the folders that are the test's own."""
    line = step.command.replace("/mnt/backup", "/var/backup").replace("-- runlake ", f"-- {_RUNLAKE} ")
    if line.startswith(_LEFT_OUT):
        return ""
    line = line.replace("runlake init --system", f"runlake init --system --python {sys.executable}")
    known = f"export RUNLAKE_TOKEN_FILE={token}\n" if token else ""
    return systemd.ok("sh", "-ec", f'cd /run\n{known}runlake() {{ {_RUNLAKE} "$@"; }}\n{line}')


def lines(heading: str) -> list[Step]:
    found = list(steps(section("deploy.md", f"### {heading}", within="## systemd")))
    assert found, heading
    return found


def test_every_line_of_the_guide_to_one_machine_can_be_copied_in_its_order(systemd: Systemd) -> None:
    def in_step() -> bool:
        return systemd.shows("runlake-query", "StatusText") == "In step with the lake"

    for heading in ("Copy", "Run"):
        for step in lines(heading):
            follow(systemd, step)
    wait_until(in_step, "query to follow")
    told = [follow(systemd, step) for step in lines("Check")]
    assert any("All is well." in text for text in told)

    for step in lines("Others than this machine"):
        follow(systemd, step)
    wait_until(in_step, "query to follow again")
    refused = systemd.run("sh", "-c", f"cd /run; {_RUNLAKE} doctor --settings /etc/runlake/runlake.toml")
    assert refused.returncode == 1
    assert "set RUNLAKE_TOKEN or RUNLAKE_TOKEN_FILE to its token" in refused.stdout
    told = [follow(systemd, step, "/etc/runlake/token") for step in lines("Check")]
    assert any("All is well." in text for text in told)

    for step in lines("Upgrade"):
        follow(systemd, step)
    owners = systemd.ok("find", "/var/lib/runlake", "/var/backup/runlake", "!", "-user", "runlake-ingest")
    assert owners == ""
    for step in lines("Uninstall"):
        follow(systemd, step)
    assert systemd.ok("ls", "/etc/runlake").split() == ["runlake.toml", "token"]
    assert systemd.run("systemctl", "cat", "runlake-ingest").returncode != 0
