"""How many runs there are of which kind is kept beside them, whatever happens to runs. `Model` looks, wherever it is
used, whether the counts are those of the runs; here they are looked at themselves."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from runlake_query import apply, largespan
from runlake_query.parameters import Parameters
from runlake_query.runcounts import RunCounts
from runlake_query.runs import LIST_PARAMETERS, LIST_REPEATABLE, list_runs
from support.lakes import LakeWriter, Worker
from support.models import Model


def total(model: Model, *given: tuple[str, str]) -> int:
    """The total of a list with these filters."""
    parameters = Parameters(given, LIST_PARAMETERS, LIST_REPEATABLE)
    found = msgspec.json.decode(model.read(lambda snapshot: list_runs(snapshot, parameters)))
    assert isinstance(found["total"], int)
    return found["total"]


def counts(model: Model) -> list[tuple[object, ...]]:
    return model.rows(
        "SELECT agent_name, job_type, status, sum(runs)::BIGINT FROM run_counts GROUP BY ALL ORDER BY ALL"
    )


def test_a_run_is_counted_from_its_start_on_and_as_what_it_is_now(lake: LakeWriter, tmp_path: Path) -> None:
    worker, late = Worker(), UUID(int=7)
    first = worker.start("first", agent_name="a", job_type="j", status="running")
    worker.update(late, status="failure")
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        assert counts(model.caught_up(worker)) == [("a", "j", "running", 1)]
        worker.update(first, status="success")
        worker.start("late", late, agent_name="b", job_type="j", status="running")
        lake.flush(worker)
        found = [row for row in counts(model.caught_up(worker)) if row[3]]
        assert found == [("a", "j", "success", 1), ("b", "j", "failure", 1)]


def test_a_change_that_leaves_a_run_what_it_is_adds_no_row(lake: LakeWriter, tmp_path: Path) -> None:
    worker = Worker()
    run = worker.start("r", agent_name="a", job_type="j", status="running")
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        before = model.caught_up(worker).rows("SELECT * FROM run_counts")
        worker.update(run, items_succeeded=3)
        worker.update(run, status="running")
        lake.flush(worker)
        assert model.caught_up(worker).rows("SELECT * FROM run_counts") == before == [("a", "j", "running", 1)]


def test_what_was_appended_is_summed_up(lake: LakeWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "RunCounts", partial(RunCounts, most_appended=4))
    worker, rows = Worker(), []
    with Model(lake, tmp_path / "model") as model:
        for number in range(20):
            run = worker.start(f"r{number}", agent_name=f"a{number % 2}", job_type="j", status="running")
            lake.flush(worker)
            model.caught_up(worker)
            worker.update(run, status="success")
            lake.flush(worker)
            model.caught_up(worker)
            ((found,),) = model.rows("SELECT count(*) FROM run_counts")
            rows.append(found)
        assert max(rows) <= 2 * 4 + 4  # two agents, each running or not
        assert {row for row in counts(model) if row[3]} == {("a0", "j", "success", 10), ("a1", "j", "success", 10)}


def test_totals_of_lists_by_kind_are_the_counts_and_others_are_counted(lake: LakeWriter, tmp_path: Path) -> None:
    worker = Worker()
    worker.start("r", agent_name="a", job_type="j", status="running", product="p")
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        cursor = model.model.cursor()
        cursor.execute("INSERT INTO run_counts VALUES ('a', 'j', 'running', 41)")
        kind = [("agent_name", "a"), ("job_type", "j"), ("status", "running")]
        assert [total(model), total(model, *kind), total(model, *kind[:1])] == [42, 42, 42]
        assert total(model, *kind, ("product", "p")) == total(model, ("start_time_from", "2020-01-01T00:00:00Z")) == 1
        cursor.execute("DELETE FROM run_counts WHERE runs = 41")
        cursor.close()


def test_a_run_that_moved_is_counted_once_when_the_numbers_of_a_worker_jump(lake: LakeWriter, tmp_path: Path) -> None:
    first, second = Worker(UUID(int=1)), Worker(UUID(int=2))
    moved = first.start("moved", agent_name="a", job_type="j", status="running")
    second.start("other", agent_name="b", job_type="j")
    lake.flush(first, second)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(first, second)
        number_on(lake, largespan.LEAST_MESSAGES, first, second)
        second.update(moved, status="success")
        lake.flush(second)
        cursor = model.caught_up(first, second).model.cursor()
        # Of a run that moved the read model has the last position, and any of its workers: here the first one.
        cursor.execute("UPDATE runs SET worker = ? WHERE event_id = ?", [first.id, moved])
        cursor.close()
        number_on(lake, 3 * largespan.LEAST_MESSAGES, first, second)
        model.caught_up(first, second)
        assert total(model, ("agent_name", "a")) == 1


def number_on(lake: LakeWriter, at: int, *workers: Worker) -> None:
    """The list of workers changes: all of them go on after this position."""
    for worker in workers:
        worker.seq = worker.flushed = at
        lake.flush(worker)
