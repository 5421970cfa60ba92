"""A large span of the lake leaves the same read model as the same messages in small ones."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runlake_query import largespan
from support.lakes import LakeWriter, Worker, at
from support.models import Model, fields_missed, lake_runs

FIELDS: dict[str, list[Any]] = {
    "status": ["success", "failure"],
    "product": ["a", "b"],
    "end_time": [at(10), at(99.5)],
    "duration_ms": [0, 17],
    "items_failed": [0, 3],
    "commit_hash": ["abcdef0", "ABCDEF01"],
    "commit_source": ["ci"],
    "model": ["gpt-4o", "unheard-of"],
    "input_tokens": [1_000],
    "output_tokens": [77],
    "cost_usd": ["0.25"],
}
TABLES = (
    "runs",
    "unstarted",
    "events",
    "associations",
    "loose_events",
    "producers",
    "producer_ranges",
    "open_deliveries",
    "positions",
)


def tell(dice: random.Random, worker: Worker, runs: list[UUID], messages: int) -> None:
    """Starts, some of them twice, and updates, some of them before their start; events with and without a run."""
    for _ in range(messages):
        run = dice.choice(runs)
        name = f"run-{run.int % 5}"
        fields = {field: dice.choice(FIELDS[field]) for field in dice.sample(sorted(FIELDS), dice.randrange(5))}
        match dice.randrange(5):
            case 0:
                worker.start(name, run, **fields)
            case 1:
                worker.start(name, run, **fields | {"model": "gpt-4o", "input_tokens": 1_000, "output_tokens": 77})
            case 2:
                worker.update(run, **fields)
            case 3:
                worker.event(name, run, ts=dice.choice((at(worker.seq), "2020-01-01T00:00:00Z")))
            case _:
                worker.event(name)
    worker.delivery("p", worker.flushed + 1, messages, first_seq=worker.flushed + 1)


def all_rows(model: Model) -> dict[str, list[str]]:
    return {
        table: [row[0] for row in model.rows(f"SELECT {table}::VARCHAR AS found FROM {table} ORDER BY found")]
        for table in TABLES
    }


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_p4_large_spans_leave_what_small_ones_do(
    lake: LakeWriter, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    workers = [Worker(), Worker()]
    for part in range(3):
        for worker in workers:
            again = [UUID(int=number) for number in range(6)] if worker is workers[0] else []
            new = [UUID(int=dice.getrandbits(128)) for _ in range(8)]
            tell(dice, worker, [*again, *new] if part else new, 40)
        lake.flush(*workers)
    with Model(lake, tmp_path / "small", days=90) as small:
        expected = all_rows(small.caught_up(*workers))
    assert [table for table in TABLES if not expected[table]] == ["open_deliveries"]
    assert {row[0] for row in lake.sql("SELECT DISTINCT cost_source FROM lake.runs")} == {"computed", "reported", None}
    monkeypatch.setattr(largespan, "LEAST_MESSAGES", 1)
    for span_messages in (17, 1_000_000):
        with Model(lake, tmp_path / f"large-{span_messages}", days=90, span_messages=span_messages) as large:
            assert all_rows(large.caught_up(*workers)) == expected
            assert large.shown() == lake_runs(lake)
            assert not fields_missed(large)


def test_what_a_large_span_brings_is_not_answered_from_memory_as_it_was(
    lake: LakeWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, old, new = Worker(), UUID(int=1), UUID(int=2)
    with Model(lake, tmp_path / "model") as model:
        for run in (old, new):
            worker.start("r", run)
            worker.delivery("p", worker.flushed + 1, 1, first_seq=worker.flushed + 1)
            lake.flush(worker)
            model.caught_up(worker)
            found = model.recent.get("r")
            assert found is None or found[0].event_id == run
            monkeypatch.setattr(largespan, "LEAST_MESSAGES", 1)
