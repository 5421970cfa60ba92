"""`runlake init`: what it writes, what it leaves alone, and what it takes away again."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from runlake import settings as settings_module
from runlake.cli import main
from runlake.settings import Settings
from runlake.settingsdoc import as_toml, documented

_SYSTEM = (
    "etc/runlake/runlake.toml",
    "etc/sysusers.d/runlake.conf",
    "etc/systemd/system/runlake-ingest.service",
    "etc/systemd/system/runlake-query.service",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def _system(root: Path, *flags: str) -> int:
    return main(["init", "--system", "--root", str(root), "--python", "/opt/runlake/bin/python", *flags])


def _files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def _unit(root: Path, name: str) -> str:
    return (root / f"etc/systemd/system/runlake-{name}.service").read_text()


def test_every_setting_is_explained_and_its_default_shown_where_it_has_one(tmp_path: Path) -> None:
    text = as_toml({})
    assert tomllib.loads(text) == {}
    names = [field.name for field in msgspec.structs.fields(Settings)]
    assert [setting.name for setting in documented()] == names
    assert all(len(setting.meaning) > 10 for setting in documented())
    lines = text.splitlines()
    for name in names:
        (at,) = (number for number, line in enumerate(lines) if line.startswith(f"# {name} = "))
        assert lines[at - 1].startswith("# ")
    shown = [line.removeprefix("# ") for line in lines if line.startswith("# ") and " = " in line and "…" not in line]
    (tmp_path / "all.toml").write_text("\n".join(line for line in shown if line.split(" = ")[0] in names))
    assert len(shown) >= 20
    assert settings_module.load({}, {}, tmp_path / "all.toml") == settings_module.load({}, {}, Path(os.devnull))


def test_a_folder_gets_settings_that_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--dir", str(tmp_path)]) == 0
    assert _files(tmp_path) == {"runlake.toml"}
    assert "runlake up" in capsys.readouterr().out
    assert settings_module.load({}, {}, tmp_path / "runlake.toml") == settings_module.load({}, {}, Path(os.devnull))


def test_beyond_loopback_there_is_a_token_that_only_its_user_reads(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        assert main(["init", "--dir", str(tmp_path), "--http", "0.0.0.0:8765"]) == 0
    finally:
        os.umask(umask)
    token = tmp_path / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    loaded = settings_module.load({}, {}, tmp_path / "runlake.toml")
    assert (loaded.http, str(loaded.token)) == ("0.0.0.0:8765", token.read_text().strip())
    assert len(loaded.token) >= 40


def test_on_loopback_there_is_no_token(tmp_path: Path) -> None:
    assert main(["init", "--dir", str(tmp_path), "--http", "127.0.0.1:9000"]) == 0
    assert _files(tmp_path) == {"runlake.toml"}
    assert settings_module.load({}, {}, tmp_path / "runlake.toml").http == "127.0.0.1:9000"


def test_a_system_gets_settings_users_and_units_with_the_interpreter(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _system(root) == 0
    assert _files(root) == set(_SYSTEM)
    for name in ("ingest", "query"):
        start = f'ExecStart="/opt/runlake/bin/python" -P -m runlake.cli {name} --settings /etc/runlake/runlake.toml\n'
        assert start in _unit(root, name)
        assert "$" not in _unit(root, name)
    loaded = settings_module.load({}, {}, root / "etc/runlake/runlake.toml")
    assert (str(loaded.data), str(loaded.read_model)) == ("/var/lib/runlake", "/var/lib/runlake-query")
    said = capsys.readouterr().out
    assert said.index("systemd-sysusers") < said.index("daemon-reload") < said.index("enable --now")


def test_a_system_that_others_reach_gives_the_token_to_query_alone(root: Path) -> None:
    assert _system(root, "--http", "0.0.0.0:8765") == 0
    token = (root / "etc/runlake/token").read_text().strip()
    assert stat.S_IMODE((root / "etc/runlake/token").stat().st_mode) == 0o600
    query = _unit(root, "query")
    assert 'Environment="RUNLAKE_HTTP=0.0.0.0:8765"\n' in query
    assert "LoadCredential=token:/etc/runlake/token\n" in query
    assert "IPAddressDeny" not in query
    assert "IPAddressDeny=any" in _unit(root, "ingest")
    assert "token" not in _unit(root, "ingest")
    for name in _files(root) - {"etc/runlake/token"}:
        assert token not in (root / name).read_text(), name


def test_again_it_changes_nothing(root: Path) -> None:
    assert _system(root, "--http", "0.0.0.0:8765") == 0
    before = {name: ((root / name).read_text(), (root / name).stat().st_ino) for name in _files(root)}
    assert _system(root, "--http", "0.0.0.0:8765") == 0
    assert {name: ((root / name).read_text(), (root / name).stat().st_ino) for name in _files(root)} == before


def test_a_unit_that_differs_is_replaced_by_force_alone_and_settings_never(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _system(root, "--http", "0.0.0.0:8765") == 0
    settings, unit = root / _SYSTEM[0], root / _SYSTEM[2]
    token = (root / "etc/runlake/token").read_text()
    settings.write_text('log_level = "debug"\n')
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    (root / _SYSTEM[3]).unlink()
    assert _system(root, "--http", "0.0.0.0:8765") == 1
    assert str(unit) in capsys.readouterr().err
    assert unit.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert not (root / _SYSTEM[3]).exists()  # nothing was done
    assert _system(root, "--http", "0.0.0.0:8765", "--force") == 0
    assert "runlake.cli ingest" in unit.read_text()
    assert (root / _SYSTEM[3]).exists()
    assert settings.read_text() == 'log_level = "debug"\n'
    assert (root / "etc/runlake/token").read_text() == token


def test_a_dry_run_says_it_and_does_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _system(root, "--dry-run") == 0
    assert not root.exists()
    said = capsys.readouterr().out
    assert all(f"would write {root / name}" in said for name in _SYSTEM)
    _system(root)
    assert _system(root, "--uninstall", "--dry-run") == 0
    assert _files(root) == set(_SYSTEM)


def test_uninstall_takes_units_away_and_leaves_settings_token_and_data(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _system(root, "--http", "0.0.0.0:8765")
    data = root / "var/lib/runlake/catalog.sqlite"
    data.parent.mkdir(parents=True)
    data.write_text("rows")
    capsys.readouterr()
    assert _system(root, "--uninstall") == 0
    assert _files(root) == {"etc/runlake/runlake.toml", "etc/runlake/token", "var/lib/runlake/catalog.sqlite"}
    assert "Left as they are: the data" in capsys.readouterr().out
    assert _system(root, "--uninstall") == 0


def test_uninstall_leaves_a_unit_that_somebody_else_wrote(root: Path) -> None:
    _system(root)
    unit = root / _SYSTEM[2]
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert _system(root, "--uninstall") == 0
    assert unit.exists()
    assert not (root / _SYSTEM[3]).exists()


def test_uninstall_waits_until_the_units_are_disabled(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _system(root)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "runlake-query.service").symlink_to("/etc/systemd/system/runlake-query.service")
    assert _system(root, "--uninstall") == 1
    assert "systemctl disable --now runlake-query.service" in capsys.readouterr().err
    assert set(_SYSTEM) <= _files(root)


def test_a_link_in_the_place_of_a_file_is_not_written_through(root: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / _SYSTEM[2]).symlink_to(victim)
    assert _system(root) == 1
    assert _system(root, "--force") == 0
    assert victim.read_text() == "mine"
    assert not (root / _SYSTEM[2]).is_symlink()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--http", "nowhere"], "--http"),
        (["--http", "0.0.0.0:99999"], "--http"),
        (["--uninstall"], "--system"),
        (["--root", "/nowhere"], "--system"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    flags: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--dir", str(tmp_path), *flags]) == 2
    assert says in capsys.readouterr().err
    assert _files(tmp_path) == set()


def test_an_interpreter_that_services_do_not_see_is_refused(root: Path, tmp_path: Path) -> None:
    linked = tmp_path / "python"
    linked.symlink_to("/home/somebody/bin/python3")
    program = f"import sys; sys.executable = {str(linked)!r}; from runlake.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "init", "--system", "--root", str(root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "/opt/runlake" in done.stderr
    assert not root.exists()


def test_an_interpreter_with_odd_characters_is_quoted(root: Path) -> None:
    assert main(["init", "--system", "--root", str(root), "--python", '/opt/a b"%c/python']) == 0
    assert 'ExecStart="/opt/a b\\"%%c/python" -P' in _unit(root, "ingest")
