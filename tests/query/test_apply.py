"""The read model is the fold of the lake, however the log was cut into spans; and what it keeps beside the runs."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from runlake_query import rollups
from runlake_query.apply import Applier, LakeSource
from runlake_query.parameters import Parameters
from runlake_query.reader import Snapshot
from runlake_query.runs import LIST_PARAMETERS, LIST_REPEATABLE, list_runs
from support.lakes import LakeWriter, Worker, at
from support.models import Model, fields_missed, lake_runs

FIELDS: dict[str, list[Any]] = {
    "status": ["running", "success", "failure", "partial"],
    "product": ["a", "b"],
    "end_time": [at(10), at(99.5)],
    "duration_ms": [0, 17, 2**62],
    "items_failed": [0, 3],
    "cost_usd": ["0.000000001", "123456789.987654321"],
    "metrics_json": [{"k": [1, {"ü": None}]}, {}],
    "commit_hash": ["abcdef0", "1234567"],
    "commit_source": ["manual", "ci"],
    "commit_author": ["Ada"],
    "commit_timestamp": [at(5)],
    "heartbeat_until": [at(100)],
}


def random_history(dice: random.Random, worker: Worker, runs: list[UUID], messages: int) -> None:
    """Starts, second starts, updates before their start, events with and without a run."""
    for _ in range(messages):
        run = dice.choice(runs)
        fields = {name: dice.choice(FIELDS[name]) for name in dice.sample(sorted(FIELDS), dice.randrange(5))}
        match dice.randrange(5):
            case 0:
                worker.start(f"run-{run.int % 3}", run, **fields)
            case 1 | 2:
                worker.update(run, **fields)
            case 3:
                worker.event(f"run-{run.int % 3}", run)
            case _:
                worker.event(f"run-{run.int % 3}")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_p4_the_read_model_equals_the_fold_of_the_lake_however_it_was_cut(
    lake: LakeWriter, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    workers = [Worker(), Worker()]
    runs = {worker.id: [UUID(int=dice.getrandbits(128)) for _ in range(8)] for worker in workers}
    with Model(lake, tmp_path / "tailed") as tailed:
        for _ in range(4):
            for worker in workers:
                random_history(dice, worker, runs[worker.id], 25)
            lake.flush(*workers)
            tailed.caught_up(*workers)
        whole = lake_runs(lake)
        assert whole
        assert tailed.shown() == whole
        counts = tailed.rows("SELECT event_id, events FROM runs ORDER BY ALL")
        with Model(lake, tmp_path / "cut", span_messages=7) as cut:
            cut.caught_up(*workers)
            assert cut.shown() == whole
            assert cut.rows("SELECT event_id, events FROM runs ORDER BY ALL") == counts
            for model in (tailed, cut):
                assert unstarted(model) == model.rows("SELECT event_id FROM runs WHERE created_at IS NULL ORDER BY ALL")
                assert not fields_missed(model)
            assert cut.rows("SELECT * EXCLUDE (ts) FROM events ORDER BY worker, seq") == tailed.rows(
                "SELECT * EXCLUDE (ts) FROM events ORDER BY worker, seq"
            )
    in_lake = lake.sql("SELECT run_event_id, count(*) FROM lake.events WHERE run_event_id IS NOT NULL GROUP BY 1")
    assert {str(run): events for run, events in counts if events} == dict(map(tuple, in_lake))


def unstarted(model: Model) -> list[tuple[UUID]]:
    return [(event_id,) for (event_id,) in model.rows("SELECT event_id FROM unstarted ORDER BY ALL")]


def counted(snapshot: Snapshot) -> tuple[int, int]:
    """How many runs a list and a rollup say there are."""
    listed = msgspec.json.decode(list_runs(snapshot, Parameters([], LIST_PARAMETERS, LIST_REPEATABLE)))
    asked = Parameters([("measures", "runs")], rollups.PARAMETERS, rollups.REPEATABLE)
    return listed["total"], msgspec.json.decode(rollups.rollup(snapshot, asked))["totals"]["runs"]


def test_a_run_whose_start_has_not_come_is_kept_and_not_shown(lake: LakeWriter, tmp_path: Path) -> None:
    worker, run = Worker(), UUID(int=7)
    worker.update(run, status="success", product="later wins")
    worker.event("r", run)
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        assert model.caught_up(worker).shown() == []
        assert model.rows("SELECT count(*), sum(events) FROM runs") == [(1, 1)]
        assert unstarted(model) == [(run,)]
        assert model.read(counted) == (0, 0)
        worker.start("r", run, status="running", product="first", website="w")
        lake.flush(worker)
        model.caught_up(worker)
        assert model.rows("SELECT status, product, website, events FROM shown") == [("success", "later wins", "w", 1)]
        assert unstarted(model) == []
        assert model.read(counted) == (1, 1)
        assert model.shown() == lake_runs(lake)


def test_a_start_that_comes_twice_changes_nothing_but_what_was_missing(lake: LakeWriter, tmp_path: Path) -> None:
    worker, run = Worker(), UUID(int=7)
    worker.start("r", run, product="first")
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        worker.start("r", run, product="second", website="only here")
        lake.flush(worker)
        model.caught_up(worker)
        assert model.rows("SELECT product, website FROM shown") == [("first", "only here")]
        assert model.shown() == lake_runs(lake)


def test_applying_a_position_twice_is_a_no_op(lake: LakeWriter, tmp_path: Path) -> None:
    worker = Worker()
    run = worker.start("r")
    worker.event("r", run)
    worker.event("r")
    worker.delivery("p", 1, 3, first_seq=1)
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        applier = Applier(model.model.cursor())
        tables = ("runs", "events", "loose_events", "producers", "producer_ranges", "open_deliveries", "positions")
        before = [model.rows(f"SELECT {table}::VARCHAR FROM {table}") for table in tables]
        with model.copies.borrow() as copy:
            for upto, segment in ((worker.seq, worker.segment), (1, 1), (worker.seq, 0)):
                assert applier.apply_lake(LakeSource(copy), worker.id, upto, segment) == 0
        assert [model.rows(f"SELECT {table}::VARCHAR FROM {table}") for table in tables] == before


def test_a_span_that_fails_leaves_nothing_behind(lake: LakeWriter, tmp_path: Path) -> None:
    worker = Worker()
    worker.start("r")
    lake.flush(worker)

    class Breaking(LakeSource):
        def stage(self, cursor: Any, span: Any) -> None:
            super().stage(cursor, span)
            cursor.execute("INSERT INTO new_deliveries VALUES (2, 'p', now(), 1, 1, 1, 0, 0), (2, 'p', now(), 1, 'x')")

    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        worker.start("s")
        applier = Applier(model.model.cursor())
        with model.copies.borrow() as copy, pytest.raises(Exception, match="VALUES"):
            applier.apply_lake(Breaking(copy), worker.id, worker.seq, 2)
        assert model.rows("SELECT seq, segment FROM positions") == [(1, 1)]
        lake.flush(worker)
        assert len(model.caught_up(worker).shown()) == 2


def test_events_older_than_the_window_are_counted_and_left_in_the_lake(lake: LakeWriter, tmp_path: Path) -> None:
    worker = Worker()
    run = worker.start("r")
    worker.event("r", run, ts="2020-01-01T00:00:00Z")
    worker.event("r", run, ts="2026-04-14T00:00:00Z")
    lake.flush(worker)
    with Model(lake, tmp_path / "model", days=30) as model:
        model.caught_up(worker)
        assert model.rows("SELECT count(*) FROM events") == [(1,)]
        assert model.rows("SELECT events FROM shown") == [(2,)]


@pytest.mark.parametrize(("first", "then"), [(30, 3650), (3650, 30)])
def test_a_window_of_another_size_is_filled_or_cut(lake: LakeWriter, tmp_path: Path, first: int, then: int) -> None:
    worker = Worker()
    run = worker.start("r")
    for ts in ("2020-01-01T00:00:00Z", "2026-04-14T00:00:00Z"):
        worker.event("r", run, ts=ts)
    lake.flush(worker)
    with Model(lake, tmp_path / "model", days=first) as model:
        model.caught_up(worker)
    with Model(lake, tmp_path / "model", days=then) as model:
        model.caught_up(worker)
        assert model.rows("SELECT count(*) FROM events") == [(2 if then == 3650 else 1,)]
        assert model.rows("SELECT events FROM shown") == [(2,)]


def test_old_copies_of_the_catalog_go_when_nobody_reads_them(lake: LakeWriter, tmp_path: Path) -> None:
    worker = Worker()
    worker.start("r")
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        with model.copies.borrow() as held:
            for number in range(3):
                worker.start(f"r{number}")
                lake.flush(worker)
                model.caught_up(worker)
            files = {file.name for file in (tmp_path / "model").glob("catalog-*.sqlite")}
            assert held.file.name in files
            assert len(files) <= 3
            assert model.rows(f"SELECT count(*) FROM {held.name}.run_changes") == [(1,)]
        worker.start("last")
        lake.flush(worker)
        model.caught_up(worker)
    assert not list((tmp_path / "model").glob("catalog-*"))
