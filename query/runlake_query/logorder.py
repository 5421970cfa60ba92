"""In which order the logs of several workers are applied.

All messages of a run are in the log of its home worker, whose order is that of `seq`; so it does not matter which
worker's log is applied first. But when the list of workers changes, runs move. Then every worker has brought all it had
to the lake, and all go on with numbers that are greater than any given out before: a run's earlier changes have the
lesser numbers, in whosever log they are. What a run is now is stored without the ranks of its fields, so that no
earlier change may ever be applied after a later one.

Such a change shows as a jump in the numbering of whoever goes on after it. So all that lies before a jump is applied
before anything behind it, of every worker. A worker without a jump was the one with the greatest number: what it has is
the latest, and comes last. The feed does not follow over a jump: what is behind it comes from the lake first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

import duckdb

from runlake.sqlfile import load_queries

_SQL = load_queries("runlake_query", "logorder.sql")


class Stretch(NamedTuple):
    """Positions of a worker without a gap. Where `last` is less than `first`, it only says where the worker goes on."""

    worker: UUID
    first: int
    last: int


def read_stretches(cursor: duckdb.DuckDBPyConnection, lake: str, confirmed: Mapping[UUID, int]) -> list[Stretch]:
    """What the lake attached as `lake` has beyond `confirmed`."""
    values = {"workers": [str(worker) for worker in confirmed], "seqs": list(confirmed.values())}
    rows = cursor.execute(_SQL["stretches"].format(lake=lake), values).fetchall()
    return [Stretch(UUID(worker), first, last) for worker, first, last in rows]


def in_order(stretches: Iterable[Stretch], confirmed: Mapping[UUID, int]) -> list[Stretch]:
    """The stretches beyond `confirmed`, cut where others jump, in the order in which they are to be applied."""
    found = sorted(stretches, key=_place)
    at = dict(confirmed)
    jumps = set()
    for worker, first, last in found:
        if first > at.get(worker, 0) + 1:
            jumps.add(first - 1)
        at[worker] = last
    cuts = sorted(jumps)
    return sorted((piece for stretch in found for piece in _cut(stretch, cuts)), key=_place)


def _cut(stretch: Stretch, cuts: list[int]) -> list[Stretch]:
    pieces = []
    worker, first, last = stretch
    for cut in cuts[bisect_left(cuts, first) :]:
        if cut >= last:
            break
        pieces.append(Stretch(worker, first, cut))
        first = cut + 1
    return [*pieces, Stretch(worker, first, last)]


def _place(stretch: Stretch) -> tuple[int, int, UUID]:
    return stretch.last, stretch.first, stretch.worker
