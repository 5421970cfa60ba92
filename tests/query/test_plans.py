"""Plans that are kept: they are made once, they answer as new ones do, and no value gets out of its literal."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runlake.logs import Log
from runlake_query.folder import Folder
from runlake_query.model import open_model
from runlake_query.plans import Plans


@pytest.fixture
def cursor(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """With the settings of a read model: with DuckDB's own, plans take the statistics of their day as true for good."""
    folder = Folder(tmp_path)
    model = open_model(folder, datetime(2026, 1, 1, tzinfo=UTC), Log("query", stream=io.StringIO()))
    cursor = model.cursor()
    cursor.execute("CREATE TABLE t AS SELECT i, 'name-' || i AS name FROM range(10) AS numbers(i)")
    yield cursor
    model.close()
    folder.close()


def test_what_is_asked_in_the_same_words_is_planned_once(cursor: duckdb.DuckDBPyConnection) -> None:
    plans = Plans(cursor)
    for number in (3, 3, 4, 3, 4, 4):
        assert plans.rows("SELECT name FROM t WHERE i = $i", {"i": number}) == [(f"name-{number}",)]
    assert plans.made == 2
    for names in (["name-1"], ["name-2", "name-5"], []):
        query = "SELECT name FROM t WHERE name IN (SELECT unnest($1::VARCHAR[])) ORDER BY name"
        assert plans.call(query, names) == [(name,) for name in names]
    assert plans.call("SELECT name FROM t WHERE i IN (SELECT unnest($1::BIGINT[]))", [7, 2**40]) == [("name-7",)]
    assert plans.made == 4


def test_a_plan_sees_rows_that_came_and_went_after_it_was_made(cursor: duckdb.DuckDBPyConnection) -> None:
    plans = Plans(cursor)
    largest = "SELECT i FROM t ORDER BY i DESC LIMIT 2"
    joined = "SELECT i FROM t WHERE name IN (SELECT unnest($1::VARCHAR[])) ORDER BY i"
    wanted = ["name-9", "name-300000", "name-1"]
    cursor.execute("CREATE TABLE empty AS SELECT i FROM t LIMIT 0")
    assert plans.rows("SELECT count(*), max(i) FROM empty") == [(0, None)]
    assert plans.rows(largest) == [(9,), (8,)]
    assert plans.call(joined, wanted) == [(1,), (9,)]
    cursor.execute("INSERT INTO empty SELECT i FROM t")
    cursor.execute("INSERT INTO t SELECT i, 'name-' || i FROM range(10, 400000) AS numbers(i)")
    assert plans.rows("SELECT count(*), max(i) FROM empty") == [(10, 9)]
    assert plans.rows(largest) == [(399_999,), (399_998,)]
    assert plans.call(joined, wanted) == [(1,), (9,), (300_000,)]
    cursor.execute("DELETE FROM t WHERE i > 20")
    assert plans.rows(largest) == [(20,), (19,)]
    assert plans.call(joined, wanted) == [(1,), (9,)]
    cursor.execute("ALTER TABLE t ADD COLUMN more INTEGER DEFAULT 1")
    assert plans.rows("SELECT more FROM t LIMIT 1") == [(1,)]
    assert plans.rows(largest) == [(20,), (19,)]


def test_the_plan_that_was_not_used_for_longest_goes(cursor: duckdb.DuckDBPyConnection) -> None:
    plans = Plans(cursor, max_kept=2)
    for number in (1, 2, 3, 1, 2, 1, 3, 1, 2):
        assert plans.rows("SELECT i FROM t WHERE i = $i", {"i": number}) == [(number,)]
        assert len(plans) <= 2
    assert plans.made == 4
    (names,) = cursor.execute("SELECT count(*) FROM duckdb_prepared_statements()").fetchall()
    assert names == (2,)


def test_a_plan_that_goes_through_much_is_not_kept(cursor: duckdb.DuckDBPyConnection) -> None:
    """What its operators held stays for as long as the plan."""
    plans = Plans(cursor)
    little, much = "SELECT max(i) FROM range(10) r(i)", "SELECT max(hash(i)) > 0 FROM range(20_000_000) r(i)"
    for _ in range(3):
        assert plans.rows(little) == [(9,)]
        assert plans.rows(much) == [(True,)]
    assert (plans.made, len(plans)) == (3, 1)


def test_what_is_asked_once_leaves_nothing_in_memory(cursor: duckdb.DuckDBPyConnection) -> None:
    """A rollup has the moment in its text, and so each is another one: a plan of each held 10 MB."""

    def held() -> int:
        ((count,),) = cursor.execute("SELECT sum(memory_usage_bytes)::BIGINT FROM duckdb_memory()").fetchall()
        return int(count)

    plans = Plans(cursor)
    query = "SELECT name, count(*), list(i) FROM t WHERE i > $i GROUP BY name ORDER BY name LIMIT 1"
    before = held()
    for number in range(10):
        plans.rows(query, {"i": -number})
    assert (plans.made, held() - before) == (0, 0)
    plans.rows(query, {"i": 0})
    assert (plans.made, held() > before) == (1, True)


def test_of_what_was_asked_long_ago_nothing_is_known_any_more(cursor: duckdb.DuckDBPyConnection) -> None:
    plans = Plans(cursor, max_remembered=2)
    for number, made in ((1, 0), (2, 0), (1, 1), (3, 1), (4, 1), (2, 1), (2, 2), (1, 2)):
        assert plans.rows("SELECT i FROM t WHERE i = $i", {"i": number}) == [(number,)]
        assert plans.made == made


def test_a_query_that_fails_may_be_asked_again(cursor: duckdb.DuckDBPyConnection) -> None:
    plans = Plans(cursor)
    for _ in range(2):
        with pytest.raises(duckdb.CatalogException):
            plans.rows("SELECT * FROM missing")
        with pytest.raises(duckdb.ConversionException):
            plans.rows("SELECT name::INTEGER FROM t")
    assert plans.rows("SELECT count(*) FROM t") == [(10,)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    value=st.one_of(st.text(), st.integers(-(2**62), 2**62), st.booleans(), st.none(), st.lists(st.text(), max_size=3)),
    text=st.one_of(st.text(), st.sampled_from(["'", "''", "\\", "$other", "'; DROP TABLE t; --", "\0", "{x}", "$$"])),
)
def test_a_value_comes_back_as_it_went_in(cursor: duckdb.DuckDBPyConnection, value: Any, text: str) -> None:
    plans = Plans(cursor)
    query, values = "SELECT $value, $text, length($text), $other", {"value": value, "text": text, "other": "o"}
    bound = cursor.execute(query, values).fetchall()
    assert plans.rows(query, values) == bound
    assert plans.rows(query, values) == bound
