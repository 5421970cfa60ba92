"""Expiry of the quarantine: refused messages go when they are old. The books keep how many there were."""

from __future__ import annotations

from datetime import datetime

import duckdb

from runlake.sqlfile import load_queries

_SQL = load_queries("runlake.lake", "quarantine.sql")


def old_rows(connection: duckdb.DuckDBPyConnection, lake: str, before: datetime) -> int:
    """How many rows are older than `before`. Raises duckdb.Error."""
    row = connection.execute(_SQL["old"].format(lake=lake), {"before": before.isoformat()}).fetchone()
    return int(row[0]) if row else 0


def expire_rows(connection: duckdb.DuckDBPyConnection, lake: str, before: datetime) -> int:
    """Delete the rows older than `before`, in the caller's transaction; returns how many. Raises duckdb.Error."""
    row = connection.execute(_SQL["expire"].format(lake=lake), {"before": before.isoformat()}).fetchone()
    return int(row[0]) if row else 0
