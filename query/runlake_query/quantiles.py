"""Exact quantiles of one column over very many rows, on all cores.

DuckDB finds the quantiles of one group on one thread, with all values in memory. Here a sample says between which two
values each quantile lies; then the rows below are counted, and only those between are put in order. What is found is
exact: where the sample was wrong, which the counts show, DuckDB's own way is taken, as it is where there are few rows.
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
"""How far from its share a quantile is looked for, as a share: a sample of whole blocks of rows is off by less."""


class Found(NamedTuple):
    """The quantiles of a column."""

    values: list[float | None]
    """One for each share; None where there is no value."""
    narrow: bool
    """Whether all values are known to fit into 32 bits, in which DuckDB is quicker to find the quantiles of groups."""


def quantiles(
    snapshot: Snapshot, rows: str, sample: str, values: dict[str, Any], column: str, shares: Sequence[float]
) -> Found:
    """The quantiles of an integer column, between the two nearest values in proportion.

    `rows` and `sample` are queries of all rows, and of some, with the values that both bind.
    """
    ranges = _ranges(snapshot, sample, values, column, shares)
    found = _between(snapshot, rows, values, column, shares, ranges) if ranges else None
    if found is not None:
        return found
    (plain,) = snapshot.one(_SQL["plain"].format(column=column, shares=_list(shares), rows=rows), values)
    return Found(list(plain or [None] * len(shares)), narrow=False)


def _ranges(
    snapshot: Snapshot, sample: str, values: dict[str, Any], column: str, shares: Sequence[float]
) -> list[tuple[int, int]]:
    """Between which values each quantile is likely to be; none without a sample that says it."""
    edges = [edge for share in shares for edge in (max(share - _MARGIN, 0.0), min(share + _MARGIN, 1.0))]
    count, found = snapshot.one(_SQL["sampled"].format(column=column, shares=_list(edges), sample=sample), values)
    return list(zip(found[::2], found[1::2], strict=True)) if count >= LEAST_SAMPLED else []


def _between(
    snapshot: Snapshot, rows: str, values: dict[str, Any], column: str, shares: Sequence[float],
    ranges: Sequence[tuple[int, int]],
) -> Found | None:  # fmt: skip
    """The quantiles, or None when one of them is not in its range."""
    edges = [edge for low, high in ranges for edge in (low, high + 1)]
    counts = ", ".join(_SQL["below"].format(column=column, edge=edge) for edge in edges)
    total, fitting, *below = snapshot.one(_SQL["counts"].format(column=column, counts=counts, rows=rows), values)
    places = [share * (total - 1) for share in shares]
    wanted = []
    for place, (low, high), first, end in zip(places, ranges, below[::2], below[1::2], strict=True):
        if floor(place) < first or ceil(place) >= end:
            return None
        # In the middle of its step, so that no rounding moves it to a neighbour.
        ranks = _list([(rank - first + 0.5) / (end - first) for rank in (floor(place), ceil(place))])
        wanted.append(_SQL["ranked"].format(column=column, low=low, high=high, ranks=ranks, rows=rows))
    ranked = snapshot.one(_SQL["ranks"].format(wanted=", ".join(wanted)), values)
    between = zip(places, ranked, strict=True)
    return Found(
        [low * (1 - place % 1) + high * (place % 1) for place, (low, high) in between],
        narrow=fitting == total,
    )


def _list(numbers: Sequence[float]) -> str:
    return f"[{', '.join(repr(float(number)) for number in numbers)}]"
