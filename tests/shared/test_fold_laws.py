"""P4: a run's state is a pure function of its accepted changes. The laws of the fold, in the SQL that is in use."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runlake.fields import CHANGE_FIELDS, RUN_FIELDS, Role
from runlake.lake import duck
from runlake.lake.schema import changes_query, fold_query, present_query, runs_view_query
from support import foldmodel
from support.foldmodel import COMMIT_DETAILS, Change

RUNS = [str(UUID(int=number)) for number in (1, 2, 3)]
WORKER = str(UUID(int=99))
BASE = 1_769_596_200_000_000  # 2026-01-28T10:30:00Z, in microseconds

COMMIT = ("commit_hash", *COMMIT_DETAILS)
SQL_TYPES = {field.name: field.sql_type for field in CHANGE_FIELDS}
IDENTITY = {field.name for field in CHANGE_FIELDS if field.role is Role.IDENTITY}
REQUIRED = {"run_id", "agent_name", "job_type", "start_time"}

VALUES: dict[str, list[Any]] = {
    "VARCHAR": ["a", "b", "c", ""],
    "BIGINT": [0, 1, 2**63 - 1],
    "TIMESTAMPTZ": [BASE, BASE + 1, BASE + 1_999, BASE + 86_400_000_000, BASE - 500],
    "DECIMAL(18,9)": ["0.000000000", "0.250000000", "999999999.999999999"],
    "JSON": ['{"a":1}', '{"b":[1,null]}', "{}"],
}

laws = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def histories(draw: st.DrawFn) -> list[Change]:
    """Changes of a few runs in log order. Few fields are in play, so that changes meet."""
    playing = draw(st.sets(st.sampled_from(sorted(set(SQL_TYPES) - REQUIRED)), min_size=1, max_size=4))
    names = sorted(playing | draw(st.sets(st.sampled_from(COMMIT))))
    runs = RUNS[: draw(st.integers(1, len(RUNS)))]
    history = []
    for seq in range(1, draw(st.integers(1, 9)) + 1):
        kind = draw(st.sampled_from(["run.started", "run.updated", "commit.associated"]))
        fields = {name: _value(draw, name) for name in names if draw(st.booleans())}
        if kind == "run.started":
            fields |= {name: _value(draw, name) for name in sorted(REQUIRED)}
        elif kind == "commit.associated":
            fields = {name: value for name, value in fields.items() if name in COMMIT}
            fields |= {name: _value(draw, name) for name in ("commit_hash", "commit_source")}
        else:
            fields = {name: value for name, value in fields.items() if name not in IDENTITY}
        received = BASE + draw(st.integers(-2_000, 2_000))  # the clock of a worker may go back
        history.append(Change(draw(st.sampled_from(runs)), kind, seq, received, fields))
    return history


def _value(draw: st.DrawFn, name: str) -> Any:
    return draw(st.sampled_from(VALUES[SQL_TYPES[name]]))


class Lake:
    """The tables of the lake in a plain DuckDB, and the fold over them."""

    def __init__(self) -> None:
        self._connection = duck.connect(threads=1)
        for name in ("0001_initial.sql", "0002_prices.sql"):
            self._connection.execute(files("runlake.lake").joinpath("migrations", name).read_text("utf-8"))
        self._connection.execute(f"CREATE TABLE stored AS {fold_query(changes_query('run_changes'))}")
        columns = self._connection.execute("DESCRIBE run_changes").fetchall()
        self._structure = json.dumps([{name: kind for name, kind, *_ in columns}])
        self._number = 0

    def close(self) -> None:
        self._connection.close()

    def write(self, history: Sequence[Change]) -> None:
        rows = [self._row(change) for change in history]
        self._connection.execute("DELETE FROM run_changes")
        self._connection.execute(
            "INSERT INTO run_changes BY NAME SELECT unnest(from_json(?::JSON, ?), max_depth := 2)",
            [json.dumps(rows), self._structure],
        )

    def fold(self) -> dict[str, dict[str, Any]]:
        """The fold of everything at once."""
        return self._read(fold_query(changes_query("run_changes")))

    def fold_in_parts(self, ends: Sequence[int]) -> dict[str, dict[str, Any]]:
        """The fold of the first part, then of each further part onto the stored rows. A part ends at each of `ends`."""
        self._connection.execute("DELETE FROM stored")
        first = 1
        for last in ends:
            part = f"(SELECT * FROM run_changes WHERE seq BETWEEN {first} AND {last})"
            names = ", ".join(SQL_TYPES)
            stored = (
                f"SELECT event_id AS run_event_id, {names}, created_at, created_seq, updated_at, seq, worker, 0 AS rank"
                " FROM stored"
            )
            ranked = f"{changes_query(part)} UNION ALL BY NAME {stored}"
            self._connection.execute(f"CREATE OR REPLACE TABLE next AS {fold_query(ranked)}")
            self._connection.execute("DELETE FROM stored")
            self._connection.execute("INSERT INTO stored SELECT * FROM next")
            first = last + 1
        return self._read("FROM stored")

    def present(self) -> dict[str, dict[str, Any]]:
        """The runs as the view of the lake shows them."""
        return self._read(runs_view_query())

    def present_stored(self) -> dict[str, dict[str, Any]]:
        """The runs as a read model shows them, from its table of folded rows."""
        return self._read(present_query("stored"))

    def _row(self, change: Change) -> dict[str, Any]:
        self._number += 1
        fields = {}
        for name, value in change.fields.items():
            match SQL_TYPES[name]:
                case "TIMESTAMPTZ":
                    fields[name] = _iso(value)
                case "JSON":
                    fields[name] = json.loads(value)
                case _:
                    fields[name] = value
        return fields | {
            "worker": WORKER,
            "seq": change.seq,
            "received_at": _iso(change.received_at),
            "producer": "p",
            "kind": change.kind,
            "event_id": str(UUID(int=2**64 + self._number)),
            "run_event_id": change.run,
            "ts": _iso(change.received_at),
        }

    def _read(self, query: str) -> dict[str, dict[str, Any]]:
        shape = self._connection.execute(f"DESCRIBE {query}").fetchall()
        as_compared = {"TIMESTAMP WITH TIME ZONE": "epoch_us({0})", "BIGINT": "{0}", "VARCHAR": "{0}"}
        columns = [as_compared.get(kind, "{0}::VARCHAR").format(name) for name, kind, *_ in shape]
        names = [name for name, *_ in shape]
        found = self._connection.execute(f"SELECT {', '.join(columns)} FROM ({query})").fetchall()
        rows = [dict(zip(names, values, strict=True)) for values in found]
        assert len({row["event_id"] for row in rows}) == len(rows)
        return {row["event_id"]: {k: v for k, v in row.items() if k not in ("event_id", "worker")} for row in rows}


def _iso(microseconds: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)).isoformat()


@pytest.fixture(scope="module")
def lake() -> Iterator[Lake]:
    made = Lake()
    yield made
    made.close()


def started(seq: int, **fields: Any) -> Change:
    needed = {"run_id": "r", "agent_name": "a", "job_type": "j", "start_time": BASE}
    return Change(RUNS[0], "run.started", seq, BASE + seq, needed | fields)


def updated(seq: int, **fields: Any) -> Change:
    return Change(RUNS[0], "run.updated", seq, BASE + seq, fields)


def committed(seq: int, commit_hash: str, **fields: Any) -> Change:
    return Change(
        RUNS[0], "commit.associated", seq, BASE + seq, {"commit_hash": commit_hash, "commit_source": "ci"} | fields
    )


@laws
@given(history=histories())
@example(history=[updated(1, status="success"), started(2, status="running")])
@example(history=[started(1, product="first"), started(2, product="second", host="only here")])
@example(history=[started(1), committed(2, "aaaaaaa", commit_author="Ada"), committed(3, "bbbbbbb")])
@example(history=[started(1, commit_author="Ada"), updated(2, commit_hash="aaaaaaa")])
@example(history=[updated(1, commit_author="Ada"), started(2, commit_hash="aaaaaaa", commit_author="Bob")])
def test_p4_the_sql_fold_is_the_fold_of_the_model(lake: Lake, history: list[Change]) -> None:
    lake.write(history)
    assert lake.fold() == foldmodel.fold(history)


@laws
@given(history=histories(), data=st.data())
def test_p4_folding_in_parts_onto_stored_rows_is_folding_everything_at_once(
    lake: Lake, history: list[Change], data: st.DataObject
) -> None:
    ends = [seq for seq in range(1, len(history)) if data.draw(st.booleans())] + [len(history)]
    lake.write(history)
    assert lake.fold_in_parts(ends) == lake.fold()
    assert lake.present_stored() == lake.present()


@laws
@given(history=histories())
def test_p4_folding_change_by_change_is_folding_everything_at_once(lake: Lake, history: list[Change]) -> None:
    lake.write(history)
    assert lake.fold_in_parts(range(1, len(history) + 1)) == lake.fold()


@laws
@given(history=histories(), data=st.data())
def test_p4_reordering_changes_of_different_runs_changes_nothing_but_positions(
    lake: Lake, history: list[Change], data: st.DataObject
) -> None:
    queues = {run: [change for change in history if change.run == run] for run in RUNS}
    turns = data.draw(st.permutations([change.run for change in history]))
    reordered = [replace(queues[run].pop(0), seq=seq) for seq, run in enumerate(turns, 1)]
    lake.write(history)
    before = lake.fold()
    lake.write(reordered)
    assert _without_positions(lake.fold()) == _without_positions(before)


@laws
@given(history=histories(), data=st.data())
def test_p4_a_change_that_is_folded_twice_changes_nothing(
    lake: Lake, history: list[Change], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(history), max_size=4))
    lake.write(history)
    once = lake.fold()
    lake.write([*again, *history])
    assert lake.fold() == once


@laws
@given(history=histories())
def test_p4_runs_are_shown_as_the_model_shows_them(lake: Lake, history: list[Change]) -> None:
    lake.write(history)
    assert lake.present() == foldmodel.present(foldmodel.fold(history))


def test_every_field_of_a_run_is_folded_by_the_rule(lake: Lake) -> None:
    """Each field by itself: an update outranks the starts, the later update wins, and the earlier start."""
    for name, kind in SQL_TYPES.items():
        first, second, third, *_ = VALUES[kind]
        starts = [started(2, **{name: first}), started(3, **{name: second})]
        lake.write(starts)
        assert lake.fold()[RUNS[0]][name] == first, name
        lake.write([updated(1, **{name: second}), *starts])
        assert lake.fold()[RUNS[0]][name] == second, name
        lake.write([updated(1, **{name: second}), *starts, updated(4, **{name: third}), updated(5)])
        assert lake.fold()[RUNS[0]][name] == third, name


def test_an_update_without_a_start_is_kept_and_not_shown(lake: Lake) -> None:
    lake.write([updated(1, status="success")])
    assert lake.fold()[RUNS[0]]["status"] == "success"
    assert lake.present() == {}
    lake.write([updated(1, status="success"), started(2, status="running")])
    assert lake.present()[RUNS[0]]["status"] == "success"


def test_a_duration_is_computed_only_where_nobody_set_it(lake: Lake) -> None:
    def duration(*changes: Change) -> Any:
        lake.write(changes)
        return lake.present()[RUNS[0]]["duration_ms"]

    assert duration(started(1)) is None
    assert duration(started(1), updated(2, end_time=BASE + 2_500_999)) == 2_500
    assert duration(started(1), updated(2, end_time=BASE + 2_500_999, duration_ms=7)) == 7
    assert duration(started(1, duration_ms=0), updated(2, end_time=BASE + 2_000)) == 0
    assert duration(started(1), updated(2, end_time=BASE)) == 0
    assert duration(started(1), updated(2, end_time=BASE - 1)) is None


def test_a_duration_is_the_time_that_passed_in_whole_milliseconds(lake: Lake) -> None:
    """Not the number of milliseconds of the clock that were begun: 200 microseconds are no millisecond."""
    lake.write([started(1, start_time=BASE + 900, end_time=BASE + 1_100)])
    assert lake.present()[RUNS[0]]["duration_ms"] == 0


def test_a_computed_duration_is_not_stored_as_if_it_was_set(lake: Lake) -> None:
    lake.write([started(1), updated(2, end_time=BASE + 1_000_000), updated(3, end_time=BASE + 5_000_000)])
    assert lake.fold_in_parts([1, 2, 3])[RUNS[0]]["duration_ms"] is None
    assert lake.present_stored()[RUNS[0]]["duration_ms"] == 5_000


def test_the_author_of_an_earlier_commit_is_not_shown_beside_a_later_one(lake: Lake) -> None:
    changes = [
        started(1),
        committed(2, "aaaaaaa", commit_author="Ada", commit_timestamp=BASE),
        committed(3, "bbbbbbb"),
        updated(4, commit_author="Bob"),
    ]
    lake.write(changes[:3])
    run = lake.present()[RUNS[0]]
    assert [run[name] for name in COMMIT] == ["bbbbbbb", "ci", None, None]
    lake.write(changes)
    run = lake.present()[RUNS[0]]
    assert [run[name] for name in COMMIT] == ["bbbbbbb", "ci", "Bob", None]


def test_a_cost_that_was_reported_says_so(lake: Lake) -> None:
    lake.write([started(1, cost_usd="0.250000000")])
    assert lake.present()[RUNS[0]]["cost_source"] == "reported"
    lake.write([started(1)])
    assert lake.present()[RUNS[0]]["cost_source"] is None


def test_a_run_is_shown_with_every_field_there_is(lake: Lake) -> None:
    lake.write([started(1)])
    assert ["event_id", *lake.present()[RUNS[0]]] == [field.name for field in RUN_FIELDS]


def _without_positions(folded: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        run: {name: value for name, value in state.items() if name not in ("seq", "created_seq")}
        for run, state in folded.items()
    }
