"""The units that `runlake init` writes, as systemd itself reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from runlake.cli import main

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs Debian's package systemd")

_MOST_EXPOSED = 20
"""In tenths, of the scale of `systemd-analyze security`: 0 is confined, 100 is not at all."""


@pytest.fixture(params=[(), ("--http", "0.0.0.0:8765")], ids=["loopback", "open"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    # systemd-analyze looks whether the interpreter is there and can be executed
    assert main(["init", "--system", "--root", str(tmp_path), "--python", "/bin/sh", *request.param]) == 0
    return tmp_path


@pytest.fixture
def units(root: Path) -> list[str]:
    return [str(root / f"etc/systemd/system/runlake-{name}.service") for name in ("ingest", "query")]


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_knows_every_word_of_the_units(units: list[str]) -> None:
    done = _run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_wrong_word_in_a_unit_would_be_found(units: list[str]) -> None:
    unit = Path(units[0])
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystm=strict"))
    assert "ProtectSystm" in _run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units).stderr


def test_the_units_are_confined(units: list[str]) -> None:
    for unit in units:
        done = _run("systemd-analyze", "security", "--offline=true", f"--threshold={_MOST_EXPOSED}", unit)
        assert done.returncode == 0, done.stdout.strip().rpartition("\n")[2]


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="needs systemd-sysusers")
def test_each_process_gets_a_user_of_its_own_in_the_group_of_the_lake(root: Path) -> None:
    done = _run("systemd-sysusers", f"--root={root}")
    assert done.returncode == 0, done.stderr
    users = [line.split(":") for line in (root / "etc/passwd").read_text().splitlines()]
    (group,) = [line.split(":")[2] for line in (root / "etc/group").read_text().splitlines() if "runlake:" in line]
    ours = {name: (number, of_group, shell) for name, _, number, of_group, _, _, shell in users if "runlake" in name}
    assert set(ours) == {"runlake-ingest", "runlake-query"}
    assert len({number for number, _, _ in ours.values()}) == 2
    assert {of_group for _, of_group, _ in ours.values()} == {group}
    assert all(shell.endswith("nologin") for _, _, shell in ours.values())
