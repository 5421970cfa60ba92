"""The steps of docs/keys.md for systemd: a worker with keys, beyond loopback, and a query process of another user."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.processes import wait_until
from support.systemd import Systemd, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "systemd")

_UNITS = ("runlake-ingest", "runlake-query")
_SEEN = "[Service]\nProtectHome=no\nPrivateTmp=no\n"
"""The tests' own interpreter may be below /root or /tmp, which the units rightly do not see."""
_PAGE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text("utf-8")
_RUNLAKE = f"{sys.executable} -m runlake.cli"
_AGENT = """
import os
os.environ["XDG_STATE_HOME"] = "/run/agent"
import runlake
with runlake.track_run("agent", "job", run_id="with-keys"):
    pass
assert runlake.flush(30), runlake.stats()
"""


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    with Systemd(tmp_path / "log") as systemd:
        systemd.ok("mount", "--make-rshared", "/")  # as on a machine that booted it: credentials are mounted
        systemd.ok(sys.executable, "-m", "runlake.cli", "init", "--system", "--python", sys.executable)
        systemd.ok("systemd-sysusers")
        for unit in _UNITS:
            _drop_in(systemd, unit, "seen", _SEEN)
        systemd.ok("systemctl", "daemon-reload")
        systemd.ok("ip", "link", "set", "lo", "up")
        if systemd.run("ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1").returncode:
            pytest.skip("no address beyond loopback can be made here")
        systemd.ok("ip", "address", "add", "10.9.8.7/24", "dev", "d0")
        systemd.ok("ip", "link", "set", "d0", "up")
        yield systemd


def _drop_in(systemd: Systemd, unit: str, name: str, text: str) -> None:
    folder = f"/etc/systemd/system/{unit}.service.d"
    systemd.ok("sh", "-c", 'mkdir -p "$0" && printf %s "$1" > "$0/$2.conf"', folder, text, name)


def _steps() -> Iterator[tuple[str, str]]:
    """Commands of the page's section on systemd; with `systemctl edit`, the lines below it."""
    section = _PAGE.partition("\n## systemd\n")[2].partition("\n## ")[0]
    for block in re.findall(r"^```text\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        for command, below in re.findall(r"^(\S.*)\n((?:    .*\n)*)", block, re.MULTILINE):
            yield command.partition(" #")[0], below.replace("    ", "")


def test_the_steps_of_the_page_lead_to_a_worker_beyond_loopback_and_a_query_process_that_may_listen(
    systemd: Systemd,
) -> None:
    systemd.ok("systemctl", "start", *_UNITS)
    steps = list(_steps())
    assert [command for command, _ in steps][-1] == "systemctl restart runlake-ingest runlake-query"
    for command, below in steps:
        if command.startswith("systemctl edit "):
            _drop_in(systemd, command.rsplit(" ", 1)[1], "override", below)
        elif command.startswith("systemctl restart"):
            systemd.ok("sh", "-c", f"systemctl daemon-reload && {command}")
        else:
            systemd.ok("sh", "-c", command.replace("runlake ", f"{_RUNLAKE} ", 1))
    assert systemd.shows("runlake-ingest", "StatusText") == "Taking in messages at tcp://0.0.0.0:8766"
    modes = systemd.ok("stat", "--format", "%U %a", "/var/lib/runlake/keys", "/var/lib/runlake/keys/server.key_secret")
    assert modes.splitlines() == ["runlake-ingest 700", "runlake-ingest 600"]
    wait_until(lambda: systemd.shows("runlake-query", "StatusText") == "In step with the lake", "query to follow")
    variables = (
        "RUNLAKE_INGEST=tcp://10.9.8.7:8766", "RUNLAKE_SERVER_KEY=/etc/runlake/keys/server.key",
        "RUNLAKE_CLIENT_KEY=/etc/runlake/keys/query.key_secret",
    )  # fmt: skip
    systemd.ok("env", *variables, sys.executable, "-c", _AGENT)
    wait_until(lambda: "with-keys" in systemd.ok(*_RUNLAKE.split(), "runs", "--json"), "the run to be seen")
    wait_until(lambda: _hears_feed(systemd), "the feed to be heard")


def _hears_feed(systemd: Systemd) -> bool:
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8765/metrics').read().decode())"
    lines = systemd.ok(sys.executable, "-c", ask).splitlines()
    return any(line.startswith("runlake_query_feed_heard") and line.endswith(" 1.0") for line in lines)
