"""Commands about commits, trees, books and rollups, beside a real query process."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator

import pytest

from runlake.cli.entry import main
from support.lakes import LakeWriter, Worker, at
from support.processes import Site

SHA = "abcdef0123456789abcdef0123456789abcdef01"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    site = Site(tmp_path_factory.mktemp("lineage"))
    worker = Worker()
    with LakeWriter(site.data) as lake:
        worker.start("launch", start_time=at(0), cost_usd="0.000000001", error_summary="went wrong", status="failure")
        step = worker.start("step", start_time=at(1), parent_run_id="launch", input_tokens=2**62)
        worker.update(step, commit_hash=SHA, commit_source="ci", commit_author="ann")
        worker.update(step, commit_hash="1234567", commit_source="llm")
        for number in range(60):
            worker.event("step", step, ts=at(2), payload={"number": number})
        worker.delivery("p-1", 1, worker.seq, first_seq=1)
        worker.refuse("p-1", "status: is not known", b"", at(2), field="status")
        lake.flush(worker)
        query, url = site.query()
        with query:
            yield url.removeprefix("http://")


@pytest.fixture
def runlake(http: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command here; `terminal` says whether its output is one."""

    def run(*arguments: str, terminal: bool = False) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        status = main([*arguments, "--http", http])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_runs_of_a_commit_are_found_by_its_first_characters(runlake: Run) -> None:
    for line in (("runs", "--commit", "abcd"), ("commits", "abcdef0")):
        status, out, _ = runlake(*line)
        assert (status, [item["run"]["run_id"] for item in json.loads(out)["runs"]]) == (0, ["step"])
        assert SHA in runlake(*line, terminal=True)[1]
    status, _, err = runlake("runs", "--commit", "99999999")
    assert (status, err) == (1, "runlake: Commit not found: 99999999\n")
    assert runlake("runs", "--commit", "abcd", "--status", "failure")[0] == 2


def test_commits_of_a_run_are_all_that_it_was_ever_associated_with(runlake: Run) -> None:
    _, out, _ = runlake("commits", "step")
    assert [said["commit_hash"] for said in json.loads(out)["associations"]] == [SHA, "1234567"]
    shown = runlake("commits", "step", terminal=True)[1]
    assert "2 commits of step" in shown
    assert all(word in shown for word in (SHA, "ann", "1234567", "llm"))
    assert "the first 1 commits of step" in runlake("commits", "step", "--limit", "1", terminal=True)[1]


def test_show_has_the_tree_the_error_and_no_more_events_than_are_asked_for(runlake: Run) -> None:
    shown = runlake("runs", "show", "launch", terminal=True)[1]
    assert all(word in shown for word in ("went wrong", "With all below it: 2 runs", "  step"))
    shown = runlake("runs", "show", "step", terminal=True)[1]
    assert "The first 50 events" in shown
    found = json.loads(runlake("runs", "show", "step", "--events", "3")[1])
    assert (found["run"]["run_id"], len(found["events"]), found["tree"]["total"]) == ("step", 3, 1)


def test_numbers_in_a_pipe_are_those_of_the_api(runlake: Run) -> None:
    text = runlake("rollup", "--measures", "cost_usd,input_tokens")[1]
    assert '"cost_usd": 0.000000001' in text
    assert f'"input_tokens": {2**62}' in text
    assert '"cost_usd": 0.000000001' in runlake("runs")[1]


def test_a_rollup_is_a_table_in_a_terminal_and_json_in_a_pipe(runlake: Run) -> None:
    line = ("rollup", "--by", "agent_name,status", "--bucket", "day", "--measures", "runs,success_rate,events")
    answer = json.loads(runlake(*line)[1])
    day = f"{at(0)[:10]}T00:00:00Z"
    assert [(row["bucket"], row["status"], row["runs"], row["events"]) for row in answer["rows"]] == [
        (day, "failure", 1, 0), (day, "running", 1, 60),
    ]  # fmt: skip
    shown = re.sub(r"\x1b\[[0-9;]*m", "", runlake(*line, terminal=True)[1]).splitlines()
    assert shown[0].startswith("2 runs")
    assert len(shown) == 6, "a title, heads, a line, two rows, and the total"
    assert [word for word in ("agent_name", "status", "runs", "events") if word not in shown[1]] == []
    assert (shown[-1].split()[0], shown[-1].split()[-1]) == ("total", "60")


def test_the_books_and_what_was_refused_are_listed(runlake: Run) -> None:
    (producer,) = json.loads(runlake("producers")[1])["producers"]
    assert producer["accepted"] == 64
    assert "p-1" in runlake("producers", terminal=True)[1]
    assert json.loads(runlake("quarantine")[1])["messages"] == 1
    assert "status: is not known" in runlake("quarantine", terminal=True)[1]
