"""The formats that answers can have besides JSON."""

from __future__ import annotations

from typing import NamedTuple


class Format(NamedTuple):
    """A format: its name in `?format=`, its content type, and the ending of a file's name."""

    name: str
    content_type: str
    ending: str


CSV = Format("csv", "text/csv", "csv")
NDJSON = Format("ndjson", "application/x-ndjson", "ndjson")
PARQUET = Format("parquet", "application/vnd.apache.parquet", "parquet")
SQL = Format("sql", "application/sql", "sql")
"""The question itself (RFC 6922)."""
ARROW = Format("arrow", "application/vnd.apache.arrow.stream", "arrows")

EXPORTS = (CSV, NDJSON, PARQUET)
"""What lists can be exported as."""
