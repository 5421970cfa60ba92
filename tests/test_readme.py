"""The README's code blocks run as they are written, against live processes; its table of settings is the settings.

Languages of its blocks: `console` (each line after `$` is run), `python` and `sql` are run here; `text` is only shown.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from runlake.settings import Settings, variable
from support.processes import wait_until
from support.runlake_command import Command

_README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| `(RUNLAKE_\w+)` \| (.+?) \| (.+?) \|$", re.MULTILINE)
_RUN_SQL = """
import sys
from runlake.lake.duck import connect
connection = connect()
for statement in sys.stdin.read().split(";"):
    if statement.strip() and not statement.strip().startswith("INSTALL"):  # loaded already, from their packages
        rows = connection.execute(statement).fetchall()
        assert rows or statement.strip().startswith("ATTACH"), statement
        print(rows)
"""


def _blocks(language: str) -> list[str]:
    return [code for name, code in _BLOCK.findall(_README) if name == language]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """RunLake running on a folder of its own, with what the tour's demo would have recorded, but less of it."""
    command = Command(tmp_path_factory.mktemp("readme"))
    command.data = command.folder / "runlake-data"
    with command.up():
        yield command


def _bash(command: Command, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the README in a shell, with the addresses of this test in the place of the default ones."""
    line = line.replace("127.0.0.1:8765", command.http).replace(
        "runlake demo --record", "runlake demo --files 30 --record"
    )
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        env=command.environment | {"PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"},
        cwd=command.folder,
        timeout=120,
        check=False,
    )


def test_every_block_says_what_language_it_is_in() -> None:
    assert {name for name, _ in _BLOCK.findall(_README)} == {"console", "python", "sql", "text"}


def test_the_commands_of_the_tour_work_in_order(command: Command) -> None:
    lines = [line.removeprefix("$ ") for code in _blocks("console") for line in code.splitlines() if line[:2] == "$ "]
    assert len(lines) > 5
    for line in lines:
        done = _bash(command, line)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if line.startswith("curl"):
            answer = msgspec.json.decode(done.stdout)
            assert answer, line
            assert "detail" not in answer, done.stdout


def test_the_life_of_a_run_is_answered_as_the_text_says(command: Command) -> None:
    (block,) = [code for code in _blocks("console") if "by-hand" in code]
    lines = [line.removeprefix("$ ") for line in block.splitlines() if line[:2] == "$ "]
    another = {  # the same walk by a run of this test's own, whatever other tests have done
        "01a1f2b0-7c5a-7d11-9c40-3f1de5a0c0de": str(uuid4()),
        "01a1f2b0-7c5a-7d11-9c40-3f1de5a0c0e1": str(uuid4()),
        "by-hand": "by-another-hand",
        '"agent_name": "curl"': '"agent_name": "walker"',
        "agent_name=curl": "agent_name=walker",
    }

    def walk() -> list[Any]:
        answers = []
        for line in lines:
            for old, new in another.items():
                line = line.replace(old, new)  # noqa: PLW2901
            answers.append(msgspec.json.decode(_bash(command, line).stdout))
        return answers

    created, event, patched, committed, run, events, rollup = walk()
    own = another["01a1f2b0-7c5a-7d11-9c40-3f1de5a0c0de"]
    assert (created["event_id"], created["run_id"], created["status"]) == (own, "by-another-hand", "running")
    assert (created["start_time"], created["end_time"]) == ("2026-01-28T10:30:00Z", None)
    assert (event["run_id"], event["type"], event["payload"]) == (
        "by-another-hand",
        "page",
        {"url": "/", "status": 200},
    )
    changed = {"status": "success", "end_time": "2026-01-28T10:30:12Z", "duration_ms": 12_000, "items_succeeded": 1}
    assert patched == created | changed | {"updated_at": patched["updated_at"]}
    commit = {"commit_hash": "9fceb02d0ae598e95dc970b74767f19372d61af8", "commit_source": "manual"}
    assert committed == patched | commit | {"updated_at": committed["updated_at"]}
    assert run == committed
    assert events == [event]
    totals = {"runs": 1, "success_rate": 1.0, "avg_duration_ms": 12_000.0}
    assert rollup["totals"] == totals
    again = walk()  # "the same event_id again changes nothing; an Idempotency-Key does the same"
    assert again[0]["event_id"] == own
    assert again[1] == event
    assert again[5] == [event]
    assert again[6]["totals"] == totals


def test_the_python_examples_record_the_runs_that_they_show(command: Command) -> None:
    for code in _blocks("python"):
        code = code.replace("tcp://127.0.0.1:8767", command.settings["RUNLAKE_PUSH"])  # noqa: PLW2901
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            env=command.environment,
            cwd=command.folder,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"
        assert done.stderr == ""

    def names() -> set[tuple[str, str, str]]:
        said = command("runs", "--json", "--agent-name", "crawler", "--agent-name", "backup")
        runs = msgspec.json.decode(said.stdout)["runs"]
        return {(run["agent_name"], run["job_type"], run["status"]) for run in runs}

    wait_until(
        lambda: (
            names()
            == {("crawler", "crawl", "success"), ("crawler", "extract", "success"), ("backup", "copy", "success")}
        ),
        "the runs of the examples",
    )


def test_the_sql_examples_find_rows_in_the_live_lake(command: Command) -> None:
    recorded = _bash(command, "runlake demo --files 5")
    assert recorded.returncode == 0, recorded.stderr

    def finds_rows(code: str) -> bool:
        done = subprocess.run(
            [sys.executable, "-c", _RUN_SQL],
            input=code,
            capture_output=True,
            text=True,
            cwd=command.folder,
            timeout=60,
            check=False,
        )
        assert "duckdb" not in done.stderr, f"{code}\n{done.stderr}"
        return done.returncode == 0

    for code in _blocks("sql"):
        wait_until(lambda code=code: finds_rows(code), f"rows for {code}")  # type: ignore[misc]


def test_the_table_of_settings_is_the_settings() -> None:
    table = {name: default.strip("`") for name, default, _ in _ROW.findall(_README)}
    fields = msgspec.structs.fields(Settings)
    assert list(table) == [variable(field.name) for field in fields]
    for field in fields:
        fixed = str(field.default)
        if fixed not in ("", "."):  # those are computed from others
            assert table[variable(field.name)] == fixed
