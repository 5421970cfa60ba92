"""The columns of the journal's lines, which the feed carries too: what DuckDB reads them as."""

from __future__ import annotations

from collections.abc import Mapping

from runlake.fields import CHANGE_FIELDS
from runlake.lake.duck import quote

LINE_COLUMNS: dict[str, str] = {
    "kind": "VARCHAR",
    "seq": "BIGINT",
    "received_at": "TIMESTAMPTZ",
    "producer": "VARCHAR",
    "event_id": "UUID",
    "run_event_id": "UUID",
    "ts": "TIMESTAMPTZ",
    **{field.name: field.sql_type for field in CHANGE_FIELDS},
    "type": "VARCHAR",
    "payload": "JSON",
    "parent_span_id": "VARCHAR",
    "prev_hash": "VARCHAR",
    "event_hash": "VARCHAR",
    "batch": "BIGINT",
    "number": "BIGINT",
    "messages": "BIGINT",
    "field": "VARCHAR",
    "reason": "VARCHAR",
    "raw": "VARCHAR",
    "first_seq": "BIGINT",
    "first_number": "BIGINT",
    "received": "BIGINT",
    "accepted": "BIGINT",
    "duplicate": "BIGINT",
    "rejected": "BIGINT",
}
"""Every key that a line may have, and its type in the lake (`raw` is Base64 text there)."""


def columns_literal(columns: Mapping[str, str]) -> str:
    """Columns as `read_json` takes them: a SQL struct literal."""
    return "{" + ", ".join(f"{name}: {quote(kind)}" for name, kind in columns.items()) + "}"
