"""`runlake demo` against the real processes: what the agents counted is there, once, also when it is sent again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runlake.lake.attach import CATALOG, read_lake
from runlake.lake.place import LakePlace
from support.runlake_command import Command

_FILES = 40
_BAD_FILES = 3
_COMMITS = 5


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Python files, some of which do not parse."""
    folder = tmp_path / "tree"
    (folder / "deep").mkdir(parents=True)
    for number in range(_FILES - _BAD_FILES):
        lines = "\n".join(f"def f{line}(a, b={line}):\n    return a if b else [a, {line}]\n" for line in range(number))
        (folder / "deep" / f"good{number}.py").write_text(lines)
    for number in range(_BAD_FILES):
        (folder / f"bad{number}.py").write_text(f"def broken{number}(:\n")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with real commits."""
    folder = tmp_path / "repo"
    folder.mkdir()
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    for number in range(_COMMITS):
        (folder / "notes.txt").write_text("a line\n" * (number + 1))
        subprocess.run(["git", "-C", str(folder), "add", "notes.txt"], check=True)
        subprocess.run(["git", "-C", str(folder), *identity, "commit", "-qm", f"Note {number}"], check=True)
    return folder


def _demo(command: Command, *arguments: str) -> dict[str, Any]:
    said = command("demo", "--json", *arguments)
    assert said.returncode == 0, said.stdout + said.stderr
    return dict(json.loads(said.stdout[said.stdout.index("{") :]))


def _lake_counts(command: Command) -> dict[str, int]:
    """What DuckDB finds in the lake itself."""
    queries = {
        "runs": "SELECT count(*) FROM lake.runs",
        "events": "SELECT count(*) FROM lake.events",
        "failures": "SELECT count(*) FROM lake.runs WHERE status = 'failure'",
        "commits": "SELECT count(DISTINCT commit_hash) FROM lake.runs",
        "quarantined": "SELECT count(*) FROM lake.quarantine",
        "messages": "SELECT (SELECT count(*) FROM lake.run_changes) + (SELECT count(*) FROM lake.events)",
    }
    with read_lake(LakePlace.of_files(command.data / "catalog.sqlite", command.data / "lake")) as connection:
        connection.execute(f"USE {CATALOG}")
        return {name: (connection.execute(sql).fetchone() or (0,))[0] for name, sql in queries.items()}


def test_the_agents_the_api_and_the_lake_count_the_same(tmp_path: Path, tree: Path, repository: Path) -> None:
    command = Command(tmp_path)
    with command.up() as up:
        summary = _demo(command, "--tree", str(tree), "--repo", str(repository))
        assert summary["agents"] == summary["api"]
        # two kinds of agents over the files, one over the commits, and a run for each of the five agents
        assert summary["agents"]["runs"] == 2 * _FILES + _COMMITS + 5
        assert summary["agents"]["failures"] == 2 * _BAD_FILES
        assert summary["agents"]["commits"] == _COMMITS
        shown = json.loads(command("runs", "--json", "--status", "failure").stdout)
        assert {run["item_name"] for run in shown["runs"]} == {f"bad{number}.py" for number in range(_BAD_FILES)}
        assert all(run["error_summary"].startswith("SyntaxError") for run in shown["runs"])
        assert up.terminate() == 0
    lake = _lake_counts(command)
    assert {name: lake[name] for name in summary["agents"]} == summary["agents"]
    assert lake["quarantined"] == 0


def test_every_child_run_has_the_run_of_its_agent_as_parent(tmp_path: Path, tree: Path) -> None:
    command = Command(tmp_path)
    with command.up():
        _demo(command, "--tree", str(tree), "--agents", "2")
        walks = json.loads(command("runs", "--json", "--job-type", "walk").stdout)["runs"]
        for walk in walks:
            children = json.loads(command("runs", "--json", "--parent-run-id", walk["run_id"]).stdout)
            assert children["total"] == walk["items_discovered"]
            assert walk["items_succeeded"] + walk["items_failed"] == walk["items_discovered"]


@pytest.mark.parametrize("window", [{}, {"RUNLAKE_WINDOW_IDS": "1"}], ids=["usual window", "window of one id"])
def test_a_recording_sent_again_adds_nothing_also_after_a_restart(
    window: dict[str, str], tmp_path: Path, tree: Path, repository: Path
) -> None:
    command = Command(tmp_path)
    recording = tmp_path / "recording"
    with command.up(window):
        _demo(command, "--tree", str(tree), "--repo", str(repository), "--record", str(recording))
        sent = _replay(command, recording)
        assert sent["duplicates"] == sent["sent"] > 0
    before = _lake_counts(command)
    assert before["messages"] == sent["sent"]
    with command.up(window):
        again = _replay(command, recording)
        assert again["duplicates"] == again["sent"] == sent["sent"]
    assert _lake_counts(command) == before


def test_a_recording_sent_to_an_empty_lake_fills_it(tmp_path: Path, tree: Path) -> None:
    first, second = Command(tmp_path / "first"), Command(tmp_path / "second")
    recording = tmp_path / "recording"
    for command in (first, second):
        command.folder.mkdir()
    with first.up():
        _demo(first, "--tree", str(tree), "--record", str(recording))
    with second.up():
        assert _replay(second, recording)["accepted"] > 0
    assert _lake_counts(second) == _lake_counts(first)


def _replay(command: Command, recording: Path) -> dict[str, Any]:
    said = command("demo", "--json", "--replay", str(recording))
    assert said.returncode == 0, said.stderr
    return dict(json.loads(said.stdout))


def test_a_cut_off_recording_is_refused(tmp_path: Path, tree: Path) -> None:
    command = Command(tmp_path)
    recording = tmp_path / "recording"
    with command.up():
        _demo(command, "--tree", str(tree), "--record", str(recording))
    whole = recording.read_bytes()
    recording.write_bytes(whole[:-1])
    said = command("demo", "--replay", str(recording))
    assert said.returncode == 1
    assert "is damaged, or cut off, after" in said.stderr
    assert not list(tmp_path.glob("recording.*"))


def test_a_folder_without_git_is_said_so_and_passed_over(tmp_path: Path, tree: Path) -> None:
    command = Command(tmp_path)
    with command.up():
        said = command("demo", "--tree", str(tree))
    assert said.returncode == 0, said.stderr
    assert "no commits: " in said.stdout
    assert "name one with --repo" in said.stdout


def test_the_demo_fails_when_ingest_cannot_be_reached(tmp_path: Path, tree: Path) -> None:
    command = Command(tmp_path)
    with command.up():
        said = command("demo", "--tree", str(tree), "--ingest", f"ipc://{tmp_path}/nobody")
    assert said.returncode == 1
    assert "no ingest worker answers" in said.stderr
    assert said.stderr.count("\n") == 1
