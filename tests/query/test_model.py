"""The read model's file and its settings."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import duckdb
import pytest

from runlake.logs import Log
from runlake.messages import RunUpdated
from runlake_query.apply import Applier
from runlake_query.checkpoints import Checkpoints
from runlake_query.feedlines import UnreadableLines
from runlake_query.folder import Folder
from runlake_query.model import MANY_RUNS, ReadModel, open_model, read_positions
from support.journals import WORKER, batch_lines
from support.samples import event, started, updated

SINCE = datetime(2020, 1, 1, tzinfo=UTC)


def opened(folder: Folder) -> ReadModel:
    return open_model(folder, SINCE, Log("query", stream=io.StringIO()))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path / "query")
    yield folder
    folder.close()


@pytest.fixture
def model(folder: Folder) -> Iterator[ReadModel]:
    model = opened(folder)
    yield model
    model.close()


def test_statements_planned_while_the_tables_are_empty_answer_rightly_later(model: ReadModel) -> None:
    """DuckDB plans with the statistics of the moment: without the model's settings, this finds nothing, or less."""
    early = model.cursor()
    queries = {
        "found": "SELECT count(*) FROM runs WHERE created_at IS NOT NULL AND items_failed > 0",
        "grouped": "SELECT product, max(created_seq) FROM runs GROUP BY product ORDER BY product",
    }
    for name, query in queries.items():
        early.execute(f"PREPARE {name} AS {query}")
    applier = Applier(model.cursor())
    for number in range(1, 6):
        line = batch_lines([started(f"r{number}", product=f"a long product {number:040}", items_failed=number)], number)
        applier.apply_feed(WORKER, 1, number, b"".join(line))
    for name, query in queries.items():
        fresh = model.cursor().execute(query).fetchall()
        assert early.execute(f"EXECUTE {name}").fetchall() == fresh
        assert fresh != [(0,)]


def test_what_is_killed_is_as_it_was_at_the_last_checkpoint_rows_and_positions_alike(
    folder: Folder, tmp_path: Path
) -> None:
    model = opened(folder)
    cursor = model.cursor()
    applier, checkpoints = Applier(cursor), Checkpoints(cursor)
    applier.apply_feed(WORKER, 1, 2, b"".join(batch_lines([started("kept"), event(1)], 1)))
    checkpoints.applied(2)
    checkpoints.write()
    applier.apply_feed(WORKER, 1, 3, b"".join(batch_lines([started("lost")], 3)))
    killed = Folder(tmp_path / "killed")
    killed.model.write_bytes(folder.model.read_bytes())
    model.close()
    found = opened(killed)
    cursor = found.cursor()
    assert cursor.execute("SELECT run_id FROM shown").fetchall() == [("kept",)]
    assert read_positions(cursor) == {WORKER: 2}
    found.close()
    killed.close()


def test_a_model_that_is_opened_again_can_be_written_to_its_file_again(folder: Folder) -> None:
    opened(folder).close()
    model = opened(folder)
    cursor = model.cursor()
    applier = Applier(cursor)
    first = started("r")
    applier.apply_feed(WORKER, 1, 1, b"".join(batch_lines([first], 1)))
    cursor.execute("CHECKPOINT")
    applier.apply_feed(WORKER, 1, 2, b"".join(batch_lines([updated(first.event_id, status="success")], 2)))
    cursor.execute("CHECKPOINT")
    model.close()
    with duckdb.connect(str(folder.model)) as file:
        assert file.execute("SELECT status, seq FROM runs").fetchall() == [("success", 2)]


def test_a_field_that_is_set_for_the_first_time_is_known_from_then_on_and_not_when_that_fails(model: ReadModel) -> None:
    applier, first = Applier(model.cursor()), started("r")
    applier.apply_feed(WORKER, 1, 1, b"".join(batch_lines([first], 1)))
    bad, books = batch_lines([updated(first.event_id, items_failed=1, platform="p")], 2)
    with pytest.raises(UnreadableLines):
        applier.apply_feed(WORKER, 1, 2, bad.replace(b'"items_failed":1', b'"items_failed":"many"') + books)
    used = "SELECT count(*) FROM used_fields WHERE name = 'platform'"
    assert model.cursor().execute(used).fetchall() == [(0,)]
    for seq in (2, 3):
        lines = batch_lines([updated(first.event_id, platform=f"p{seq}")], seq)
        applier.apply_feed(WORKER, 1, seq, b"".join(lines))
        assert model.cursor().execute(used).fetchall() == [(1,)]


BAD = {
    "a value that does not fit": lambda line: line.replace(b'"items_failed":1', b'"items_failed":"many"'),
    "no JSON": lambda line: line[:-3],
    "no Unicode": lambda line: line.replace(b'"items_failed":1', b'"product":"\xff"'),
    "another position": lambda line: line.replace(b'{"seq":2', b'{"seq":3'),
}


@pytest.mark.parametrize("what", BAD)
def test_lines_that_cannot_be_read_are_refused_and_leave_nothing_behind(model: ReadModel, what: str) -> None:
    applier = Applier(model.cursor())
    first = started("r")
    applier.apply_feed(WORKER, 1, 1, b"".join(batch_lines([first], 1)))
    update = RunUpdated(event_id=uuid4(), run_event_id=first.event_id, ts=datetime.now(UTC), items_failed=1)
    line, books = batch_lines([update], 2)
    with pytest.raises(UnreadableLines):
        applier.apply_feed(WORKER, 1, 2, BAD[what](line.removesuffix(b"\n")) + b"\n" + books)
    cursor = model.cursor()
    assert read_positions(cursor) == {WORKER: 1}
    applier.apply_feed(WORKER, 1, 2, line + books)
    assert cursor.execute("SELECT items_failed, seq FROM runs").fetchall() == [(1, 2)]


def test_a_span_that_begins_before_what_is_reflected_adds_only_what_is_new(model: ReadModel) -> None:
    applier = Applier(model.cursor())
    first = started("r")
    lines = batch_lines([first, event(1), updated(first.event_id, status="success")], 1)
    applier.apply_feed(WORKER, 1, 2, b"".join(lines[:2]))
    assert applier.apply_feed(WORKER, 1, 3, b"".join(lines)) == 1
    cursor = model.cursor()
    assert cursor.execute("SELECT count(*), min(status) FROM runs").fetchall() == [(1, "success")]
    assert cursor.execute("SELECT count(*) FROM events").fetchall() == [(1,)]


def test_background_threads_come_once_there_are_many_runs_and_stay(model: ReadModel) -> None:
    cursor = model.cursor()

    def background() -> tuple[int, int]:
        """How many there are, and how many there may be."""
        settings = "current_setting('threads')::INTEGER - current_setting('external_threads')::INTEGER"
        ((found, most),) = cursor.execute(f"SELECT {settings}, current_setting('threads')::INTEGER - 1").fetchall()
        return found, most

    model.fit_threads(cursor)
    model.fit_threads(cursor, coming=MANY_RUNS - 1)
    assert background() == (0, background()[1])
    question = "SELECT n % 7, count(*), sum(n) FROM range(1_000_000) AS numbers(n) GROUP BY 1 ORDER BY 1"
    alone = cursor.execute(question).fetchall()
    model.fit_threads(cursor, coming=MANY_RUNS)
    assert background() == (background()[1], background()[1])
    assert cursor.execute(question).fetchall() == alone
    model.fit_threads(cursor)
    assert background() == (background()[1], background()[1])


def test_ids_are_stored_as_they_are_so_that_one_is_read_without_those_beside_it(model: ReadModel) -> None:
    """Packed, 2,048 of them have to be unpacked for each run of a page."""
    cursor = model.cursor()
    cursor.execute("INSERT INTO runs (event_id, events) SELECT uuidv7(), 0 FROM range(10_000)")
    cursor.execute(
        "INSERT INTO associations SELECT 'abcdef0', NULL, event_id, NULL, NULL, NULL, now(), event_id, 1 FROM runs"
    )
    cursor.execute("CHECKPOINT")
    for table, column in (("runs", "event_id"), ("associations", "run_event_id")):
        stored = "FROM pragma_storage_info($table) WHERE column_name = $column AND segment_type = 'UUID'"
        values = {"table": table, "column": column}
        found = cursor.execute(f"SELECT DISTINCT compression {stored}", values).fetchall()
        assert found == [("Uncompressed",)]
