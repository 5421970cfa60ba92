"""The statements of `apply.sql`, put together: those that are prepared once, and those that are planned each time.

A prepared statement takes texts only (`$1`, `$2` …), in the order in which its parameters are named here.
"""

from __future__ import annotations

from uuid import UUID

from runlake.fields import CHANGE_FIELDS
from runlake.lake.duck import quote
from runlake.lake.lines import LINE_COLUMNS
from runlake.lake.schema import COMMIT_FIELDS, changes_query, fold_query, shown_expressions
from runlake.sqlfile import load_queries
from runlake_query import runcounts
from runlake_query.pricing import LOOK_AT_MERGED, PRICE_MERGED

SQL = load_queries("runlake_query", "apply.sql")

_CHANGE_FIELDS = tuple(field.name for field in CHANGE_FIELDS)
_OTHER_COLUMNS = ("kind", "seq", "received_at", "producer", "event_id", "run_event_id", "ts")
_NEEDED_FIELDS = frozenset(("start_time", "end_time", "duration_ms", "cost_usd"))
"""What is shown of a run is computed from them."""
ALL_FIELDS = frozenset(_CHANGE_FIELDS)
"""The run fields that a change can set."""
_EVENT_COLUMNS = (
    *("kind", "seq", "received_at", "producer", "event_id", "run_id", "run_event_id", "ts", "type", "payload"),
    *("trace_id", "span_id", "parent_span_id", "prev_hash", "event_hash"),
)
_COMMIT_COLUMNS = (
    *("seq", "event_id", "run_event_id", "ts", "start_time"),
    *("commit_hash", "commit_source", "commit_author", "commit_timestamp"),
)
_DELIVERY_COLUMNS = (
    *("kind", "first_seq", "received_at", "producer", "batch", "first_number"),
    *("received", "accepted", "duplicate", "rejected"),
)
_BOOK_COLUMNS = tuple(name for name in _DELIVERY_COLUMNS if name not in ("kind", "batch"))
_COUNT_COLUMNS = {
    "run_id": "VARCHAR",
    "event_id": "UUID",
    "events": "BIGINT",
    "first_event_at": "TIMESTAMPTZ",
    "last_event_at": "TIMESTAMPTZ",
    "changed": "BOOLEAN",
}


def _rows(columns: dict[str, str]) -> str:
    """The rows of the JSON array `$1`."""
    texts = ", ".join(f'"{name}": "{"JSON" if kind == "JSON" else "VARCHAR"}"' for name, kind in columns.items())
    casts = ", ".join(f"{name}::{kind} AS {name}" for name, kind in columns.items())
    return SQL["rows_of"].format(json="$1", texts=f"{{{texts}}}", columns=casts)


def _lines(*columns: str) -> str:
    return _rows({name: LINE_COLUMNS[name] for name in columns})


def _text(number: int) -> str:
    return f"${number}::VARCHAR"


def fields_of(keys: frozenset[str]) -> frozenset[str]:
    """The run fields to fold when changes have these keys: those that they set, and those that go with them."""
    fields = (keys & ALL_FIELDS) | _NEEDED_FIELDS
    return fields if fields.isdisjoint(COMMIT_FIELDS) else fields.union(COMMIT_FIELDS)


def merge(worker: UUID, fields: frozenset[str], *, stored: bool) -> str:
    """Folds the feed's changes, which set no other `fields` than these (as `fields_of` gives them)."""
    wanted = tuple(name for name in _CHANGE_FIELDS if name in fields)
    fed = SQL["lines_as_changes"].format(worker=quote(str(worker)), rows=_lines(*_OTHER_COLUMNS, *wanted))
    return _merge(f"({fed})", fields, stored=stored)


def _merge(changes: str, fields: frozenset[str], *, stored: bool) -> str:
    ranked = [changes_query(changes), *([SQL["stored_runs"]] if stored else []), SQL["counts"]]
    fold = fold_query(" UNION ALL BY NAME ".join(ranked), SQL["more_folded"], fields)
    others = ", ".join(f"stored.{name}" for name in _CHANGE_FIELDS if name not in fields)
    if stored and others:
        fold = SQL["keep_others"].format(fold=fold, stored=SQL["stored_runs"], others=others)
    return SQL["merge_runs"].format(fold=fold, **shown_expressions())


BENCH = SQL["bench"].format(run_columns=", ".join(f"{field.name} {field.sql_type}" for field in CHANGE_FIELDS))
"""Makes the temporary tables, which the others need."""
MERGE_FROM_LAKE = _merge("new_changes", ALL_FIELDS, stored=True)
MERGE_ALONE = _merge("new_changes", ALL_FIELDS, stored=False)
ASSOCIATE = SQL["associate"].format(rows="new_changes")

_PRODUCERS = tuple(SQL["replace_producers"].split(";\n"))
BOOKS = ("sum_deliveries", "merge_ranges", *(f"replace_producers_{number}" for number in range(len(_PRODUCERS))))
"""All of them, in this order and for one worker, add what the lake says of producers to their books."""
RECOUNT_UNSTARTED = tuple(SQL["recount_unstarted"].split(";\n"))
"""All of them, in this order, find the runs whose start has not come anew."""
LOOSE = ("add_loose_events", "begin_loose_events")
"""Both, in this order, count the events that name a `run_id` and no run."""

PREPARED: dict[str, str] = {
    "feed_touch": SQL["feed_touch"].format(rows=_rows(_COUNT_COLUMNS)),
    **{f"feed_{name}": SQL[name].format(rows=_rows(_COUNT_COLUMNS)) for name in LOOSE},
    **runcounts.PREPARED,
    "look_at_merged": LOOK_AT_MERGED,
    "price_merged": PRICE_MERGED,
    "stage_books": SQL["stage_books"].format(upto=_text(2), rows=_lines(*_BOOK_COLUMNS)),
    "advance": SQL["advance"].format(
        worker=_text(1), seq=_text(2), lake_seq=_text(3), segment=_text(4), feed_segment=_text(5)
    ),
    **{
        name: SQL[name]
        for name in (
            "drop_stored",
            "insert_merged",
            "forget_unstarted",
            "add_unstarted",
            "add_event_counts",
            "count_deliveries",
            "insert_all_events",
            "insert_recent_events",
        )
    },
    **{
        f"clear_{table}": SQL["clear"].format(table=table)
        for table in ("new_changes", "new_events", "new_deliveries", "touched", "merged", "summed", "merged_ranges")
    },
}
"""By name."""


def of_worker(worker: UUID) -> dict[str, str]:
    """Those that write which worker it was, by name. Its id is a literal in them: as a parameter it has the wide ones
    planned again each time (measured: 19 ms for 8)."""
    literal = quote(str(worker))
    commits = SQL["lines_as_changes"].format(worker=literal, rows=_lines(*_COMMIT_COLUMNS))
    return {
        "associate": SQL["associate"].format(rows=f"({commits})"),
        "feed_events": SQL["feed_events"].format(worker=literal, rows=_lines(*_EVENT_COLUMNS)),
        "feed_deliveries": SQL["feed_deliveries"].format(
            worker=literal, segment=_text(2), rows=_lines(*_DELIVERY_COLUMNS)
        ),
        "sum_deliveries": SQL["sum_deliveries"].format(worker=literal),
        "merge_ranges": SQL["merge_ranges"].format(
            worker=literal, islands=SQL["islands"].format(ranges=SQL["new_ranges"].format(worker=literal))
        ),
        **{f"replace_producers_{number}": text.format(worker=literal) for number, text in enumerate(_PRODUCERS)},
    }
