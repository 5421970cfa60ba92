"""DuckDB's background threads are there while something takes long, and away while everything is short."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from runlake.logs import Log
from runlake_query.copies import Copies
from runlake_query.folder import Folder
from runlake_query.model import ReadModel, open_model
from runlake_query.reader import Reader, Snapshot
from support.processes import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(tmp_path)
    yield folder
    folder.close()


@pytest.fixture
def model(folder: Folder) -> Iterator[ReadModel]:
    model = open_model(folder, datetime(2026, 1, 1, tzinfo=UTC), Log("query", stream=io.StringIO()))
    yield model
    model.close()


def helping(cursor: duckdb.DuckDBPyConnection) -> int:
    """How many background threads DuckDB has."""
    settings = "current_setting('threads')::INTEGER - current_setting('external_threads')::INTEGER"
    return int(cursor.execute(f"SELECT {settings}").fetchall()[0][0])


def all_of_them(cursor: duckdb.DuckDBPyConnection) -> int:
    return int(cursor.execute("SELECT current_setting('threads')::INTEGER - 1").fetchall()[0][0])


def test_an_open_read_model_has_no_background_threads(model: ReadModel) -> None:
    assert helping(model.cursor()) == 0


def test_they_come_for_what_takes_long_and_go_after_it(model: ReadModel) -> None:
    cursor = model.cursor()
    for _ in range(2):
        with model.helpers.at_work():
            wait_until(lambda: helping(cursor) == all_of_them(cursor), "they have come")
        wait_until(lambda: helping(cursor) == 0, "they have gone")


def test_they_stay_while_any_of_several_is_at_work(model: ReadModel) -> None:
    cursor = model.cursor()
    with model.helpers.at_work():
        with model.helpers.at_work():
            wait_until(lambda: helping(cursor) == all_of_them(cursor), "they have come")
        assert helping(cursor) == all_of_them(cursor)
    wait_until(lambda: helping(cursor) == 0, "they have gone")


async def test_a_read_that_takes_long_gets_them_in_the_middle_of_it(folder: Folder, model: ReadModel) -> None:
    reader = Reader(model, Copies(folder, model.cursor()), threads=1)
    cursor = model.cursor()

    def long(_snapshot: Snapshot) -> int:
        wait_until(lambda: helping(cursor) == all_of_them(cursor), "they have come")
        return helping(cursor)

    assert await reader.read(long) == all_of_them(cursor)
    reader.close()
    wait_until(lambda: helping(cursor) == 0, "they have gone")


def test_a_statement_without_them_gives_the_answer_that_it_gives_with_them(model: ReadModel) -> None:
    cursor = model.cursor()
    cursor.execute("CREATE TEMP TABLE numbers AS SELECT range AS n FROM range(1_000_000)")
    question = "SELECT n % 7, count(*), sum(n) FROM numbers GROUP BY 1 ORDER BY 1"
    alone = cursor.execute(question).fetchall()
    with model.helpers.at_work():
        wait_until(lambda: helping(cursor) == all_of_them(cursor), "they have come")
        assert cursor.execute(question).fetchall() == alone


def test_closing_a_read_model_ends_the_thread_that_looks(folder: Folder) -> None:
    model = open_model(folder, datetime(2026, 1, 1, tzinfo=UTC), Log("query", stream=io.StringIO()))
    with model.helpers.at_work():
        model.close()
    model.helpers.close()
