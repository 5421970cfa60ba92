"""Rollups: any measures, by any dimensions, in buckets of any zone; one engine for all of them.

A dimension is a line in `filters.DIMENSIONS`, a measure an entry of `measures.sql`; everything here is made of these
two lists. Identifiers in the SQL come from them alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from runlake.fields import DIMENSIONS
from runlake.sqlfile import load_queries
from runlake_query.filters import SINGLE_FILTERS, STALE_AT, Where, is_stale, where
from runlake_query.jsontext import array, encode, quoted
from runlake_query.measures import measured
from runlake_query.parameters import Parameters, one_of
from runlake_query.positions import format_positions
from runlake_query.problems import InvalidParameter
from runlake_query.quantiles import quantiles
from runlake_query.reader import Snapshot

MEASURES: dict[str, str] = load_queries("runlake_query", "measures.sql")
DEFAULT_MEASURES = tuple(name for name in MEASURES if name not in {f"p{p}_duration_ms" for p in (50, 90, 95, 99)})
BUCKETS: dict[str, tuple[str, float]] = {
    "minute": ("INTERVAL 1 MINUTE", 60),
    "hour": ("INTERVAL 15 MINUTE", 3_600),
    "day": ("INTERVAL 1 DAY", 86_400),
    "week": ("INTERVAL 7 DAY", 604_800),
    "month": ("INTERVAL 1 MONTH", 2_419_200),
}
"""For each bucket a step in SQL that skips none, and its length in seconds (a month's least)."""
_SHORT = ("minute", "hour")
_SLOT_US = 900_000_000
"""Of a quarter of an hour: by so much, or twice as much, zones differ today, so that their buckets begin with slots."""
_SLOTS_US = {"minute": 60_000_000}
MAX_DIMENSIONS = 4
MAX_BUCKETS = 10_000
"""How many buckets a range may have when empty ones are filled in."""
MAX_FILLED_ROWS = 100_000
"""How many rows, groups times buckets, may be made then."""

PARAMETERS = ("group_by", "bucket", "tz", "measures", "order_by", "limit", "after", *SINGLE_FILTERS)
REPEATABLE = DIMENSIONS

_SQL = load_queries("runlake_query", "rollups.sql")


class Plan(NamedTuple):
    """A rollup that was asked for, all of it checked."""

    dimensions: tuple[str, ...]
    bucket: str | None
    zone: str
    measures: tuple[str, ...]
    order: tuple[tuple[str, bool], ...]
    """Columns, and whether each descends."""
    limit: int
    condition: Where
    span_s: float | None
    """The length of the range in seconds when all of it is given, so that empty buckets appear."""
    stale_at: str | None
    """The time by which runs are stale, where that is measured."""

    @property
    def filled(self) -> bool:
        return self.span_s is not None

    def buckets_in_range(self) -> float:
        """At least as many as there are."""
        return (self.span_s or 0) / BUCKETS[self.bucket or "minute"][1] + 1

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.dimensions, *(("bucket",) if self.bucket else ()))


class _Base(NamedTuple):
    """The runs that match, each with its bucket."""

    slots: str
    """What goes before a query of `rows`."""
    rows: str


def plan(parameters: Parameters) -> Plan:
    """What the parameters ask for. Raises InvalidParameter."""
    dimensions = tuple(dict.fromkeys(parameters.words("group_by") or ()))
    for name in dimensions:
        one_of("group_by", name, DIMENSIONS)
    if len(dimensions) > MAX_DIMENSIONS:
        raise InvalidParameter("group_by", f"must name at most {MAX_DIMENSIONS} dimensions")
    bucket = parameters.text("bucket") or None
    if bucket is not None:
        one_of("bucket", bucket, BUCKETS)
    measures = tuple(dict.fromkeys(parameters.words("measures") or DEFAULT_MEASURES))
    for name in measures:
        one_of("measures", name, MEASURES)
    columns = (*dimensions, *(("bucket",) if bucket else ()), *measures)
    words = parameters.words("order_by") or _default_order(bucket, measures)
    order = [(one_of("order_by", word.removeprefix("-"), columns), word.startswith("-")) for word in words]
    first, end = parameters.time("start_time_from"), parameters.time("start_time_to")
    span_s = None
    if bucket and first and end:
        _check_range(bucket, first, end)
        span_s = (end - first).total_seconds()
    return Plan(
        dimensions=dimensions,
        bucket=bucket,
        zone=parameters.zone("tz"),
        measures=measures,
        order=tuple(order),
        limit=parameters.limit(),
        condition=where(parameters),
        span_s=span_s,
        stale_at=parameters.now().isoformat() if "stale" in measures else None,
    )


def rollup(snapshot: Snapshot, parameters: Parameters) -> bytes:
    """The body of `GET /api/v1/rollups`."""
    asked = plan(parameters)
    base, values = _base(snapshot, asked)
    if asked.filled and asked.dimensions:
        _check_groups(snapshot, asked)
    of_all, narrow = _of_all(snapshot, asked)
    query = _SQL["rows_and_totals" if asked.keys else "totals"].format(
        groups=_groups(asked, base, narrow),
        of_all=of_all,
        totals=_SQL["of_groups"].format(keys="", measures=measured(MEASURES, asked.measures).of_all),
        totals_row=_row(asked.measures),
        rows=_rows(asked),
        row=_row((*asked.keys, *asked.measures)),
        order=_order(asked),
    )
    totals, *rows = (
        row for _, row in snapshot.rows(query, values | ({"limit": asked.limit + 1} if asked.keys else {}))
    )
    if not asked.keys:
        rows = [totals]
    truncated = len(rows) > asked.limit
    return (
        f'{{"group_by":{encode(asked.dimensions).decode()},"bucket":{quoted(asked.bucket)},'
        f'"rows":{array(rows[: asked.limit])},"totals":{totals},'
        f'"truncated":{"true" if truncated else "false"},"position":{quoted(format_positions(snapshot.positions))}}}'
    ).encode()


def rows_query(snapshot: Snapshot, parameters: Parameters) -> tuple[str, dict[str, Any], str]:
    """The rows of a rollup as a query, its values, and what to order it by. Raises InvalidParameter."""
    asked = plan(parameters)
    base, values = _base(snapshot, asked)
    if asked.filled and asked.dimensions:
        _check_groups(snapshot, asked)
    of_all = "" if asked.keys else _of_all(snapshot, asked)[0]
    query = _SQL["rows_of_groups"].format(groups=_groups(asked, base), of_all=of_all, rows=_rows(asked))
    return query, values, _order(asked)


def _order(asked: Plan) -> str:
    order = [f"{name} {'DESC' if descends else 'ASC'} NULLS LAST" for name, descends in asked.order]
    order += [f"{name} ASC NULLS LAST" for name in asked.keys]
    return ", ".join(order) or "1"


def _default_order(bucket: str | None, measures: tuple[str, ...]) -> list[str]:
    """Along time when there are buckets, else the largest groups first."""
    if bucket:
        return ["bucket"]
    return ["-runs"] if "runs" in measures else []


def _check_range(bucket: str, first: datetime, end: datetime) -> None:
    if first >= end:
        raise InvalidParameter("start_time_to", "must be after start_time_from")
    if (end - first).total_seconds() / BUCKETS[bucket][1] > MAX_BUCKETS:
        raise InvalidParameter(
            "bucket", f"{bucket!r} makes more than {MAX_BUCKETS:,} buckets of this range; take a longer one"
        )


def _check_groups(snapshot: Snapshot, asked: Plan) -> None:
    """Refuse to fill in more rows than anybody reads."""
    runs = _SQL["runs"].format(shown=snapshot.shown)
    base = _SQL["base"].format(bucket="NULL", stale="", runs=runs, where=asked.condition.sql)
    query = _SQL["count_groups"].format(dimensions=", ".join(asked.dimensions), base=base)
    (groups,) = snapshot.one(query, asked.condition.values)
    assert asked.bucket is not None
    if groups * asked.buckets_in_range() > MAX_FILLED_ROWS:
        raise InvalidParameter(
            "bucket",
            f"{asked.bucket!r} makes more than {MAX_FILLED_ROWS:,} rows of this range and its {groups:,} groups;"
            " take a longer bucket, a shorter range, a filter, or leave out an end of the range",
        )


def _base(snapshot: Snapshot, asked: Plan) -> tuple[_Base, dict[str, Any]]:
    """The query of the runs that match, and its values."""
    loose = "events" in asked.measures and snapshot.one(_SQL["has_loose_events"])[0]
    values = dict(asked.condition.values)
    stale = ""
    if "stale" in asked.measures:
        stale = f", {is_stale()} AS stale"
        values[STALE_AT] = asked.stale_at
    plain = _SQL["runs"].format(shown=snapshot.shown)
    runs = _SQL["runs_with_loose_events"].format(shown=snapshot.shown) if loose else plain
    common = {"runs": runs, "where": asked.condition.sql, "stale": stale}
    if asked.bucket is None:
        return _Base("", _SQL["base"].format(bucket="NULL", **common)), values
    slot_us = _SLOTS_US.get(asked.bucket, _SLOT_US)
    slot = _SQL["slot"].format(slot_us=slot_us)
    slots = _SQL["slots"].format(
        slot=slot,
        runs=plain,
        where=asked.condition.sql,
        first_bucket=_bucket_of(_SQL["first_of_slot"].format(slot_us=slot_us), asked.bucket),
        last_bucket=_bucket_of(_SQL["last_of_slot"].format(slot_us=slot_us), asked.bucket),
    )
    rows = _SQL["in_slots"].format(slot=slot, bucket=_bucket_of("start_time", asked.bucket), **common)
    return _Base(f"{slots}\n", rows), values | {"bucket": asked.bucket, "tz": asked.zone}


def _of_all(snapshot: Snapshot, asked: Plan) -> tuple[str, frozenset[str]]:
    """The quantiles of all runs that match, as tables beside the groups; and the columns with small values."""
    tables, narrow = "", set()
    plain = {"bucket": "NULL", "stale": "", "where": asked.condition.sql}
    sampled = _SQL["sample"].format(started="true" if snapshot.all_started else "created_at IS NOT NULL")
    runs = (_SQL["runs"].format(shown=snapshot.shown), sampled)
    rows, sample = (_SQL["base"].format(runs=text, **plain) for text in runs)
    for column, shares in measured(MEASURES, asked.measures).shares.items():
        of_all = quantiles(snapshot, rows, sample, asked.condition.values, column, shares)
        tables += _SQL["of_all"].format(column=column, quantiles=of_all.query)
        if of_all.narrow:
            narrow.add(column)
    return tables, frozenset(narrow)


def _groups(asked: Plan, base: _Base, narrow: frozenset[str] = frozenset()) -> str:
    """The query of what is known of each group."""
    of = measured(MEASURES, asked.measures, narrow)
    if not asked.keys:
        return _SQL["groups"].format(slots="", keys="", parts=of.parts, base=base.rows, group_by="")
    numbers = ", ".join(str(number + 1) for number in range(len(asked.keys)))
    keys = f"{', '.join(asked.keys)}, "
    parts = of.parts + of.quantiles
    return _SQL["groups"].format(
        slots=base.slots, keys=keys, parts=parts, base=base.rows, group_by=f"GROUP BY {numbers}"
    )


def _rows(asked: Plan) -> str:
    """The query of the rows from the groups, with empty buckets when the range is known."""
    of = measured(MEASURES, asked.measures)
    if not asked.keys:
        return _SQL["of_groups"].format(keys="", measures=of.of_all)
    grouped = _SQL["of_groups"].format(keys=f"{', '.join(asked.keys)}, ", measures=of.of_group)
    if not asked.filled or asked.bucket is None:
        return grouped
    step = BUCKETS[asked.bucket][0]
    if asked.bucket in _SHORT:
        buckets = _SQL["short_buckets"].format(bucket_of_moment=_bucket_of("moment", asked.bucket), step=step)
    else:
        buckets = _SQL["long_buckets"].format(step=step)
    cross = _SQL["cross_groups"].format(dimensions=", ".join(asked.dimensions)) if asked.dimensions else ""
    return _SQL["filled"].format(
        grouped=grouped,
        nothing=of.of_nothing,
        buckets=buckets,
        cross_groups=cross,
        frame_keys=", ".join(f"frame.{name}" for name in asked.keys),
        filled_measures=", ".join(f"coalesce(grouped.{name}, nothing.{name}) AS {name}" for name in asked.measures),
        same_keys=" AND ".join(f"frame.{name} IS NOT DISTINCT FROM grouped.{name}" for name in asked.keys),
    )


def _bucket_of(time: str, bucket: str) -> str:
    return _SQL["short_bucket" if bucket in _SHORT else "long_bucket"].format(time=time)


def _row(columns: tuple[str, ...]) -> str:
    """A row as a JSON text."""
    shown = (f"rfc3339({name})" if name == "bucket" or name.endswith("_time") else name for name in columns)
    pairs = (f"'{name}', {value}" for name, value in zip(columns, shown, strict=True))
    return f"json_object({', '.join(pairs)})"
