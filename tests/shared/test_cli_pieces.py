"""The small rules of the command line that need no process."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runlake.cli.check_data import filesystem
from runlake.cli.demo.plan import HISTORIAN, Plan, plan
from runlake.cli.failure import CommandFailed
from runlake.cli.moments import moment, rfc3339
from runlake.cli.output import cell, print_table, printable, span
from runlake.cli.ports import taken

_NOW = datetime(2026, 1, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(days=1)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(days=14)),
    ],
)
def test_a_time_may_be_said_as_how_long_ago(text: str, ago: timedelta) -> None:
    assert moment(text, _NOW) == _NOW - ago


def test_a_date_or_a_time_without_a_zone_is_in_utc() -> None:
    assert moment("2026-01-28", _NOW) == datetime(2026, 1, 28, tzinfo=UTC)
    assert moment("2026-01-28T10:30:00", _NOW) == datetime(2026, 1, 28, 10, 30, tzinfo=UTC)


def test_a_time_with_a_zone_is_sent_in_utc() -> None:
    assert rfc3339(moment("2026-01-28T10:30:00+02:00", _NOW)) == "2026-01-28T08:30:00Z"


@pytest.mark.parametrize("text", ["yesterday", "7", "d", "-7d", "7 d", "999999w", "2026-13-01", ""])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(CommandFailed, match="write 90s, 15m") as failure:
        moment(text, _NOW)
    assert failure.value.code == 2


def test_recorded_text_cannot_steer_the_terminal() -> None:
    assert printable("\x1b[2Jgone\nline\u202eé") == "\\x1b[2Jgone\\nline\\u202eé"


def test_values_are_written_for_people() -> None:
    assert [cell(value) for value in (None, True, 12_345, 0.5, 1234.5, {"a": [1]})] == [
        "–", "yes", "12,345", "0.5", "1,234.5", '{"a":[1]}',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0 ms"), (999, "999 ms"), (1_500, "1.5 s"), (61_000, "1 min 01 s"), (7_260_000, "2 h 01 min")],
)
def test_durations_are_written_in_the_unit_that_fits(milliseconds: int, text: str) -> None:
    assert span(milliseconds) == text


def test_a_port_is_taken_while_somebody_listens_on_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert taken(f"127.0.0.1:{port}") == taken(f"tcp://127.0.0.1:{port}") == "another program listens there"
    assert taken(f"127.0.0.1:{port}") is None


def test_any_free_port_and_ipc_are_never_taken() -> None:
    assert taken("127.0.0.1:0") is None
    assert taken("ipc:///somewhere") is None


def test_the_filesystem_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    place = tmp_path / "with space"
    place.mkdir()
    escaped = str(place).replace(" ", "\\040")
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {escaped} nfs4 rw 0 0\n")
    assert filesystem(place, mounts) == "nfs4"
    assert filesystem(tmp_path, mounts) == "ext4"
    assert filesystem(tmp_path, tmp_path / "missing") is None


@pytest.mark.parametrize("terminal", ["dumb", "xterm"], ids=["plain text", "rich"])
def test_a_table_shortens_what_may_be_shortened_and_nothing_else(
    terminal: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    print_table("2 runs", ["run", "took", "error"], [["a" * 20, 12_345, "e" * 50], ["b", None, None]], cut=("error",))
    shown = capsys.readouterr().out
    assert "a" * 20 in shown
    assert "12,345" in shown
    assert "e…" in shown
    assert all(len(line.rstrip()) <= 40 for line in shown.splitlines())


def _plan(tree: Path | None = None, repository: Path | None = None, record: Path | None = None) -> Plan:
    return plan(
        tree=tree, repository=repository, max_files=None, max_commits=10, processes=4, endpoint="ipc://x",
        demo_id="demo", record=record, timeout_s=1,
    )  # fmt: skip


def test_the_usual_demo_has_at_least_2000_runs_and_5000_events(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = _plan().jobs
    items = sum(len(job.items) for job in jobs)
    assert items + len(jobs) >= 2_000
    assert items * 2 >= 5_000  # every item has two events or more, also one that fails


def test_every_file_is_the_work_of_one_agent_of_each_kind(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"{number}.py").write_text("")
    by_kind: dict[str, list[str]] = {}
    for job in _plan(tree=tmp_path).jobs:
        if job.agent != HISTORIAN:
            by_kind.setdefault(job.agent, []).extend(job.items)
    assert len(by_kind) == 2
    assert all(sorted(items) == [f"{number}.py" for number in range(7)] for items in by_kind.values())


def test_a_machine_without_git_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no commits: git is not installed; name one with --repo" in _plan(tree=tmp_path).says


def test_a_repository_that_was_named_and_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    with pytest.raises(CommandFailed, match=r"--repo: .* is no git repository that can be read \(fatal: "):
        _plan(tree=tmp_path, repository=tmp_path)


def test_a_tree_without_python_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="there is no Python file in"):
        _plan(tree=tmp_path)
