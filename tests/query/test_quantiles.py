"""Quantiles of many rows against DuckDB's own, and against a sorted list."""

from __future__ import annotations

from math import ceil, floor

import duckdb
import pytest

from runlake_query.quantiles import LEAST_SAMPLED, Found, quantiles
from runlake_query.reader import Snapshot

_ROWS = 400_000
_SHARES = [0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0]
_INNER = [0.25, 0.5, 0.99]
_SAMPLE = "SELECT * FROM runs TABLESAMPLE system(10%)"
_VALUES = {
    "all different": "(hash(i) % 1_000_000_007)::BIGINT",
    "few values": "(hash(i) % 3)::BIGINT",
    "one value": "1000::BIGINT",
    "long tail": "(exp((hash(i) % 2_000)::DOUBLE / 100))::BIGINT",
    "growing with time": "i * 1_000",
    "two far apart": "CASE WHEN hash(i) % 2 = 0 THEN 1 ELSE 9_000_000_000_000_000 END",
    "with holes": "CASE WHEN hash(i) % 3 > 0 THEN (hash(i) % 10_007)::BIGINT END",
}


class Asked(Snapshot):
    """A snapshot of rows, and the quantiles found of them."""

    def __init__(self, expression: str, rows: int = _ROWS) -> None:
        connection = duckdb.connect()
        connection.execute(f"CREATE TABLE runs AS SELECT i, {expression} AS took FROM range({rows}) AS t(i)")
        super().__init__(connection, {}, None)
        self.found = Found("", narrow=False)

    def quantiles(
        self, sample: str, shares: list[float], rows: str = "SELECT * FROM runs", **values: int
    ) -> list[float | None]:
        self.found = quantiles(self, rows, sample, values, "took", shares)
        (found,) = self.one(self.found.query, dict(values))
        return list(found or [None] * len(shares))

    @property
    def plainly(self) -> bool:
        """Whether all values are put in order by one aggregate."""
        return "quantile_cont" in self.found.query


def by_sorting(snapshot: Asked, shares: list[float], where: str = "true") -> list[float]:
    query = f"SELECT took FROM runs WHERE took IS NOT NULL AND {where} ORDER BY took"
    ordered = [row[0] for row in snapshot.rows(query)]
    places = [share * (len(ordered) - 1) for share in shares]
    return [ordered[floor(at)] + (ordered[ceil(at)] - ordered[floor(at)]) * (at - floor(at)) for at in places]


@pytest.mark.parametrize("values", _VALUES)
def test_quantiles_of_many_rows_are_exact(values: str) -> None:
    snapshot = Asked(_VALUES[values])
    found = snapshot.quantiles(_SAMPLE, _SHARES)
    assert found == pytest.approx(by_sorting(snapshot, _SHARES), rel=1e-12)
    assert found == snapshot.rows(f"SELECT quantile_cont(took, {_SHARES}) FROM runs")[0][0], "to the last bit"


def test_only_rows_near_a_quantile_are_put_in_order() -> None:
    snapshot = Asked(_VALUES["all different"])
    snapshot.quantiles("SELECT * FROM runs WHERE i % 10 = 0", [0.5, 0.95])
    assert not snapshot.plainly


@pytest.mark.parametrize("part", ["i < 50_000", "i >= 350_000"])
def test_a_sample_that_misleads_changes_no_quantile(part: str) -> None:
    snapshot = Asked(_VALUES["growing with time"])
    found = snapshot.quantiles(f"SELECT * FROM runs WHERE {part}", [0.5, 0.99])
    assert snapshot.plainly
    assert found == pytest.approx(by_sorting(snapshot, [0.5, 0.99]), rel=1e-12)


def test_conditions_hold_for_rows_and_sample() -> None:
    snapshot = Asked(_VALUES["all different"])
    rows, sample = (f"SELECT * FROM ({of}) WHERE i >= $first" for of in ("FROM runs", "FROM runs WHERE i % 8 = 0"))
    found = snapshot.quantiles(sample, _INNER, rows, first=100_001)
    assert not snapshot.plainly
    assert found == pytest.approx(by_sorting(snapshot, _INNER, "i >= 100_001"), rel=1e-12)


@pytest.mark.parametrize("rows", [0, 1, 2, LEAST_SAMPLED - 1])
def test_few_rows_have_quantiles_and_none_has_none(rows: int) -> None:
    snapshot = Asked(_VALUES["all different"], rows)
    found = snapshot.quantiles("SELECT * FROM runs", _SHARES)
    assert found == (pytest.approx(by_sorting(snapshot, _SHARES), rel=1e-12) if rows else [None] * len(_SHARES))


@pytest.mark.parametrize(
    ("edge", "narrow"), [(2**31 - 1, True), (2**31, False), (-(2**31), True), (-(2**31) - 1, False)]
)
def test_values_beyond_32_bits_are_not_taken_for_small(edge: int, narrow: bool) -> None:
    snapshot = Asked(f"CASE WHEN i = 7 THEN {edge} ELSE i END::BIGINT")
    snapshot.quantiles("SELECT * FROM runs WHERE i % 10 = 0", [0.5])
    assert snapshot.found.narrow is narrow
