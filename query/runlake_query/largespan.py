"""Large spans of the lake, as they come when a read model is built or was away for long.

What a small span changes is copied first, and then folded into the runs. Of a large one nearly all runs are new, and
begin and end in it: these are folded from the lake's files straight into the read model, all at once, and with those
fields alone that are set. The few runs that are stored already go the way of small spans (`apply.py`).
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import duckdb

from runlake.lake.duck import quote
from runlake.lake.prices import NEEDED, priced_query
from runlake.lake.schema import changes_query, fold_query, shown_expressions
from runlake.sqlfile import load_queries
from runlake_query.applystatements import ALL_FIELDS, LOOSE, SQL, fields_of

LEAST_MESSAGES = 200_000
"""From so many on a span is large: nobody is told of each of its runs any more."""
_SQL = load_queries("runlake_query", "largespan.sql")
_FIELDS = sorted(ALL_FIELDS)


class SpanRows(NamedTuple):
    """The rows of a span where they are, as queries in parentheses."""

    changes: str
    events: str
    inserted: str
    """The runs that were inserted for it."""


class Applied(NamedTuple):
    """What a large span held: messages, and runs by what became of them."""

    changes: int
    events: int
    stored: int
    """Runs that were changed and stored already: they are to be replaced by those in `merged`."""
    counted: int
    """Runs that were stored already, and of which only events came."""
    new: int
    fields: frozenset[str]
    """The fields that were set, and those that go with them."""


def span_rows(lake: str, worker: UUID, after: int, upto: int) -> SpanRows:
    """The rows of the positions `after` < seq ≤ `upto` of a worker, in the lake attached as `lake`."""
    values = {"lake": lake, "worker": quote(str(worker)), "after": after, "upto": upto}
    return SpanRows(*(_SQL[name].format(**values) for name in ("changes", "events", "inserted")))


def apply_rows(cursor: duckdb.DuckDBPyConnection, rows: SpanRows) -> Applied:
    """Insert the runs that are new, commits and events; leave in `touched` all runs, and in `merged` those that are
    stored already, as folded. In the caller's transaction. Raises duckdb.Error."""
    tables = {"changes": rows.changes, "events": rows.events}
    set_fields = ", ".join(f"count({name})" for name in _FIELDS)
    events, loose, changes, *counts = _row(cursor, _SQL["count"].format(**tables, set_fields=set_fields))
    fields = fields_of(frozenset(name for name, count in zip(_FIELDS, counts, strict=True) if count))
    cursor.execute(_SQL["touch"].format(**tables))
    stored, counted, runs = _row(cursor, SQL["count_touched"])
    new_changes = rows.changes
    if stored:
        cursor.execute(_SQL["stage"].format(changes=_SQL["of_stored"].format(changes=rows.changes)))
        of_stored = [changes_query("new_changes"), SQL["stored_runs"], _SQL["counts"].format(runs=_SQL["stored"])]
        cursor.execute(SQL["merge_runs"].format(fold=_fold(of_stored, ALL_FIELDS), **shown_expressions()))
        new_changes = _SQL["of_new"].format(changes=rows.changes)
    of_new = [changes_query(new_changes), _SQL["counts"].format(runs=_SQL["new"])]
    cursor.execute(_SQL["insert"].format(fold=_fold(of_new, fields), **shown_expressions()))
    unpriced = _SQL["unpriced"].format(inserted=rows.inserted, needed=NEEDED)
    if _row(cursor, _SQL["count_unpriced"].format(unpriced=unpriced))[0]:
        cursor.execute(_SQL["price"].format(priced=priced_query(f"({unpriced})", "prices")))
    if "commit_hash" in fields:
        cursor.execute(SQL["associate"].format(rows=rows.changes))
    if loose:
        for name in LOOSE:
            cursor.execute(SQL[name].format(rows=_SQL["loose"].format(events=rows.events)))
    cursor.execute(_SQL["insert_events"].format(events=rows.events))
    return Applied(changes, events, stored, counted, runs - stored, fields)


def _fold(ranked: list[str], fields: frozenset[str]) -> str:
    return fold_query(" UNION ALL BY NAME ".join(ranked), SQL["more_folded"], fields)


def _row(cursor: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    (row,) = cursor.execute(query).fetchall()
    return tuple(row)
