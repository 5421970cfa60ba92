"""Exact quantiles of one column over very many rows, on all cores.

DuckDB finds the quantiles of one group on one thread, with all values in memory. Here a sample says between which two
values each quantile lies; then the rows below are counted, and what is left to do is to put those between in order. It
is exact: where the sample was wrong, which the counts show, DuckDB's own way is taken, as it is where there are few
rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import Any, NamedTuple

from runlake.sqlfile import load_queries
from runlake_query.reader import Snapshot

_SQL = load_queries("runlake_query", "quantiles.sql")
LEAST_SAMPLED = 5_000
"""With fewer values in the sample, there are few enough in all."""
_MARGIN = 0.01
"""How far from its share a quantile is looked for, as a share: a sample of whole blocks of rows is off by less, unless
values go with the order of the rows."""
_NEAR = 0.05
"""Ranges that are so close to each other, as a share, are read at once: a scan costs more than to order so many."""


class Found(NamedTuple):
    """How to find the quantiles of a column."""

    query: str
    """Of one row with a list, one for each share; or with NULL when there is no value. It binds what `rows` binds."""
    narrow: bool
    """Whether all values are known to fit into 32 bits, in which DuckDB is quicker to find the quantiles of groups."""


class _Range(NamedTuple):
    """Values between which some quantiles are likely to be, with an end that has none open."""

    shares: list[float]
    low: int | None
    high: int | None


class _Sampled(NamedTuple):
    """What a sample says."""

    ranges: list[_Range]
    narrow: bool


def quantiles(
    snapshot: Snapshot, rows: str, sample: str, values: dict[str, Any], column: str, shares: Sequence[float]
) -> Found:
    """The quantiles of an integer column, between the two nearest values in proportion.

    `rows` and `sample` are queries of all rows, and of some, with the values that both bind.
    """
    sampled = _sampled(snapshot, rows, sample, values, column, shares)
    if sampled is not None:
        query = _within(snapshot, rows, values, column, shares, sampled.ranges)
        if query is not None:
            return Found(query, sampled.narrow)
    plain = _SQL["plain"].format(column=column, shares=_list(shares), rows=rows)
    return Found(plain, narrow=sampled is not None and sampled.narrow)


def _sampled(
    snapshot: Snapshot, rows: str, sample: str, values: dict[str, Any], column: str, shares: Sequence[float]
) -> _Sampled | None:
    """Between which values the quantiles are likely to be; None without a sample that says it."""
    parts = _parts(shares)
    edges = _list([edge for _, low, high in parts for edge in (max(low, 0.0), min(high, 1.0))])
    query = _SQL["sampled"].format(column=column, edges=edges, sample=sample, rows=rows)
    count, wide, found = snapshot.one(query, values)
    if count < LEAST_SAMPLED:
        return None
    ranges = [
        _Range(of, None if low <= 0 else least, None if high >= 1 else most)
        for (of, low, high), least, most in zip(parts, found[::2], found[1::2], strict=True)
    ]
    return _Sampled(ranges, not wide)


def _parts(shares: Sequence[float]) -> list[tuple[list[float], float, float]]:
    """In which parts of the order, each from a share to a share, which of the quantiles are looked for."""
    parts: list[tuple[list[float], float, float]] = []
    for share in sorted(set(shares)):
        low, high = share - _MARGIN, share + _MARGIN
        if parts and low - parts[-1][2] < _NEAR:
            of, low, _ = parts.pop()
            parts.append(([*of, share], low, high))
        else:
            parts.append(([share], low, high))
    return parts


def _within(
    snapshot: Snapshot, rows: str, values: dict[str, Any], column: str, shares: Sequence[float],
    ranges: Sequence[_Range],
) -> str | None:  # fmt: skip
    """The query of the quantiles, or None when one of them is not in its range."""
    edges = [edge for one in ranges for edge in (one.low, None if one.high is None else one.high + 1)]
    below = "".join(_SQL["below"].format(column=column, edge=edge) for edge in edges if edge is not None)
    total, *counted = snapshot.one(_SQL["counts"].format(column=column, below=below, rows=rows), values)
    counts = iter(counted)
    ordered, found = [], {}
    for number, one in enumerate(ranges):
        first = 0 if one.low is None else next(counts)
        end = total if one.high is None else next(counts)
        ranks: list[float] = []
        for share in one.shares:
            place = share * (total - 1)
            if floor(place) < first or ceil(place) >= end:
                return None
            found[share] = _SQL["between"].format(
                range=number, below=len(ranks) + 1, above=len(ranks) + 2, far=repr(place % 1), near=repr(1 - place % 1)
            )
            # In the middle of its step, so that no rounding moves it to a neighbour.
            ranks += [(rank - first + 0.5) / (end - first) for rank in (floor(place), ceil(place))]
        ordered.append(
            _SQL["ordered"].format(
                range=number, column=column, within=_condition(column, one), ranks=_list(ranks), rows=rows
            )
        )
    return _SQL["within"].format(quantiles=", ".join(found[share] for share in shares), ranges=", ".join(ordered))


def _condition(column: str, one: _Range) -> str:
    ends = ((">=", one.low), ("<=", one.high))
    return " AND ".join(f"{column} {how} {end}" for how, end in ends if end is not None) or "true"


def _list(numbers: Sequence[float]) -> str:
    return f"[{', '.join(repr(float(number)) for number in numbers)}]"
