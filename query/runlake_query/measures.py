"""Measures in two steps: aggregates of each group, and from these what is shown of a group, of all, and of nothing.

So the runs are gone through once for the rows and the totals: a sum is the sum of sums. Quantiles alone are not made
of the groups' own; those of all runs come of queries beside them, from `quantiles.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

_AGGREGATE = re.compile(r"\{([^{}]+)\}")
_QUANTILE = re.compile(r"quantile_cont\((\w+), ([\d.]+)\)")
_COMBINED = {
    "count": "coalesce(sum({column}), 0)::BIGINT",
    "sum": "sum({column})",
    "min": "min({column})",
    "max": "max({column})",
}


class Measured(NamedTuple):
    """Some measures as lists of SQL columns."""

    parts: str
    """Over runs: the aggregates that all else is made of. Quantiles are not among them."""
    quantiles: str
    """Over runs: the quantiles of a group; empty without any, else with a comma before."""
    of_group: str
    """Over a row of parts and quantiles."""
    of_all: str
    """Over all rows of parts, beside a table `all_COLUMN` for each column of `shares`: aggregates all, so one row."""
    of_nothing: str
    """Over no row of parts: aggregates all, so one row."""
    shares: dict[str, tuple[float, ...]]
    """Columns, and their quantiles that are asked for. What they are over all runs is a list `quantiles`."""


def measured(measures: Mapping[str, str], names: Sequence[str], narrow: Collection[str] = ()) -> Measured:
    """The SQL of the measures with these names; the values of `narrow` columns are known to fit into 32 bits.

    Raises ValueError for an aggregate that cannot be combined.
    """
    parts = {"count(*)": "part_0"}
    shares: dict[str, list[float]] = {}
    for name in names:
        for aggregate in _AGGREGATE.findall(measures[name]):
            if found := _QUANTILE.fullmatch(aggregate):
                asked = shares.setdefault(found[1], [])
                asked += [share for share in (float(found[2]),) if share not in asked]
            else:
                parts.setdefault(aggregate, f"part_{len(parts)}")

    def columns(quantile: str, part: Callable[[str], str]) -> str:
        def aggregate(match: re.Match[str]) -> str:
            if found := _QUANTILE.fullmatch(match[1]):
                return quantile.format(column=found[1], number=shares[found[1]].index(float(found[2])) + 1)
            return part(match[1])

        return ", ".join(f"{_AGGREGATE.sub(aggregate, measures[name])} AS {name}" for name in names)

    def combined(aggregate: str) -> str:
        how = aggregate.partition("(")[0]
        if how not in _COMBINED:
            raise ValueError(f"{aggregate!r} is none of {', '.join(_COMBINED)}, quantile_cont(column, share)")
        return _COMBINED[how].format(column=parts[aggregate])

    return Measured(
        parts=", ".join(f"{aggregate} AS {column}" for aggregate, column in parts.items()),
        quantiles="".join(
            f", quantile_cont({column}{'::INTEGER' if column in narrow else ''},"
            f" [{', '.join(map(str, asked))}]) AS quantiles_{column}"
            for column, asked in shares.items()
        ),
        of_group=columns("quantiles_{column}[{number}]", parts.__getitem__),
        of_all=columns("any_value((SELECT quantiles[{number}] FROM all_{column}))", combined),
        of_nothing=columns("any_value(NULL::DOUBLE)", combined),
        shares={column: tuple(asked) for column, asked in shares.items()},
    )
