"""Which runs are old: what is found in the lake, by way of candidates and the files' statistics, beside the rule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import duckdb
import pytest

from runlake.lake import duck, schema
from runlake.lake.attach import CATALOG, attach_for_writing
from runlake.lake.durability import ParquetSync
from runlake.lake.place import LakePlace
from runlake.lake.retention import count_old, remove_old

WORKER = uuid4()
DAY = timedelta(days=1)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
NOW = FIRST + 60 * DAY
HORIZONS = tuple(FIRST + days * DAY for days in range(1, 12, 2))
COLUMNS = ("worker", "seq", "received_at", "producer", "event_id", "run_event_id", "ts")
TABLES = {"run_changes": {"kind": "run.updated"}, "events": {"type": "x", "run_id": "r", "payload": "{}"}}


class Said(NamedTuple):
    run: UUID | None
    ts: datetime
    received_at: datetime
    is_change: bool


def is_old(said: list[Said], horizon: datetime) -> bool:
    """The rule: all that was said of a run is from before, by its own time and by that of its receipt."""
    return all(one.ts < horizon and one.received_at < horizon for one in said)


def old_runs(said: list[Said], horizon: datetime) -> set[UUID]:
    runs = {one.run for one in said if one.run is not None}
    return {run for run in runs if is_old([one for one in said if one.run == run], horizon)}


def say(dice: random.Random, runs: int) -> list[Said]:
    """Whatever is said of runs, and of none: on time, late, and by clocks that are wrong; at a horizon itself, too."""
    said = []
    for run in [uuid4() for _ in range(runs)] + [None]:
        begun = FIRST + dice.randrange(10) * DAY
        for _ in range(dice.randint(1, 4)):
            ts = begun + dice.randint(0, 2) * DAY
            off = dice.choice((timedelta(), timedelta(seconds=1), DAY, -DAY))
            said.append(Said(run, ts, ts + off, run is not None and dice.random() < 0.5))
    return said


def store(connection: duckdb.DuckDBPyConnection, said: list[Said], flushes: int) -> None:
    """In so many flushes, in the order of receipt: so each file has times of its own."""
    in_order = sorted(said, key=lambda one: one.received_at)
    size = len(in_order) // flushes + 1
    for first in range(0, len(in_order), size):
        flush = list(enumerate(in_order[first : first + size], first + 1))
        for table, more in TABLES.items():
            rows = [(seq, one) for seq, one in flush if one.is_change == (table == "run_changes")]
            values = [
                value
                for seq, one in rows
                for value in (WORKER, seq, one.received_at, "p", uuid4(), one.run, one.ts, *more.values())
            ]
            columns = (*COLUMNS, *more)
            row = f"({', '.join('?' * len(columns))})"
            connection.execute(
                f"INSERT INTO lake.{table} ({', '.join(columns)}) VALUES {', '.join([row] * len(rows))}", values
            )


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duck.connect()
    attach_for_writing(connection, LakePlace.of_files(tmp_path / "catalog.sqlite", tmp_path / "lake"))
    schema.migrate(connection, CATALOG, uuid4(), ParquetSync(tmp_path / "lake"))
    yield connection
    connection.close()


def left(connection: duckdb.DuckDBPyConnection) -> dict[UUID | None, int]:
    found = connection.execute(
        "SELECT run_event_id, count(*) FROM (SELECT run_event_id FROM lake.run_changes UNION ALL"
        " SELECT run_event_id FROM lake.events) GROUP BY 1"
    ).fetchall()
    return dict(found)


def test_the_runs_that_are_found_to_be_old_are_those_of_which_nothing_is_newer(
    lake: duckdb.DuckDBPyConnection, rng: random.Random
) -> None:
    said = say(rng, 60)
    store(lake, said, flushes=4)
    for horizon in HORIZONS:
        assert count_old(lake, CATALOG, int(horizon.timestamp())) == len(old_runs(said, horizon)), horizon
    for horizon in HORIZONS:
        gone = old_runs(said, horizon)
        lake.execute("BEGIN")
        removed = remove_old(lake, CATALOG, int(horizon.timestamp()), NOW)
        lake.execute("COMMIT")
        assert removed == len(gone), horizon
        said = [one for one in said if one.run not in gone]
        runs = {one.run for one in said}
        assert left(lake) == {run: sum(one.run == run for one in said) for run in runs}, horizon
