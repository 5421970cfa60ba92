"""Measures in two steps, against the same measures in one."""

from __future__ import annotations

import duckdb
import pytest

from runlake_query.measures import measured

_MEASURES = {
    "runs": "{count(*)}",
    "late": "{count(*) FILTER (took > 5)}",
    "mean": "{sum(took)} / nullif({count(took)}, 0)",
    "least": "{min(took)}",
    "most": "{max(took)}",
    "median": "{quantile_cont(took, 0.5)}",
    "upper": "{quantile_cont(took, 0.95)}",
}
_PLAIN = (
    "count(*), count(*) FILTER (took > 5), avg(took), min(took), max(took), quantile_cont(took, 0.5),"
    " quantile_cont(took, 0.95)"
)


@pytest.fixture
def runs() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE runs AS SELECT i % 7 AS agent, nullif(i % 11, 3) AS took FROM range(1000) AS t(i)")
    return connection


@pytest.mark.parametrize("narrow", [(), ("took",)])
def test_measures_of_groups_are_those_of_their_runs(runs: duckdb.DuckDBPyConnection, narrow: tuple[str, ...]) -> None:
    of = measured(_MEASURES, list(_MEASURES), narrow)
    groups = f"SELECT agent, {of.parts}{of.quantiles} FROM runs GROUP BY agent"
    found = runs.execute(f"SELECT agent, {of.of_group} FROM ({groups}) ORDER BY agent").fetchall()
    assert found == runs.execute(f"SELECT agent, {_PLAIN} FROM runs GROUP BY agent ORDER BY agent").fetchall()


def test_measures_of_all_come_of_those_of_groups(runs: duckdb.DuckDBPyConnection) -> None:
    of = measured(_MEASURES, list(_MEASURES))
    assert of.shares == {"took": (0.5, 0.95)}
    found = runs.execute(
        "WITH all_took(quantiles) AS (SELECT quantile_cont(took, [0.5, 0.95]) FROM runs)"
        f" SELECT {of.of_all} FROM (SELECT agent, {of.parts} FROM runs GROUP BY agent)"
    ).fetchall()
    assert found == runs.execute(f"SELECT {_PLAIN} FROM runs").fetchall()


def test_measures_of_nothing_are_those_of_no_runs(runs: duckdb.DuckDBPyConnection) -> None:
    of = measured(_MEASURES, list(_MEASURES))
    query = f"SELECT {of.of_nothing} FROM (SELECT agent, {of.parts} FROM runs GROUP BY agent) WHERE false"
    assert runs.execute(query).fetchall() == runs.execute(f"SELECT {_PLAIN} FROM runs WHERE false").fetchall()


def test_an_aggregate_that_totals_cannot_be_made_of_is_refused() -> None:
    with pytest.raises(ValueError, match="'median\\(took\\)' is none of count, sum, min, max"):
        measured({"middle": "{median(took)}"}, ["middle"])
