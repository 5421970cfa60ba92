"""A long history in a lake, made from a seed by DuckDB alone: as if a worker had flushed it over half a year."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from uuid import UUID

from runlake.lake.attach import attach_for_writing, inline_flushes
from runlake.lake.duck import connect
from runlake.lake.place import LakePlace
from runlake.lake.schema import migrate
from runlake.sqlfile import load_queries

DAYS = 180
LAKE = UUID("018d4f00-0000-7000-8000-00000000001a")
WORKER = UUID("018d4f00-0000-7000-8000-00000000001b")
_SQL = load_queries("benchmarks", "history.sql")
_PART = 250_000
"""Runs in one flush; a multiple of the size of a tree."""


def make_history(data: Path, runs: int, end: datetime, seed: int = 1) -> int:
    """Write a lake with so many runs, the last of which starts just before `end`; returns the last position."""
    connection = connect()
    try:
        attach_for_writing(connection, LakePlace.of_files(data / "catalog.sqlite", data / "lake"))
        migrate(connection, "lake", LAKE, lambda: None)
        inline_flushes(connection)
        connection.execute("SET preserve_insertion_order = true")
        last_seq = 0
        for segment, first in enumerate(range(0, runs, _PART), start=1):
            values = {
                "seed": str(seed), "first": first, "last": min(first + _PART, runs) - 1, "total": runs, "days": DAYS,
                "end": end.isoformat(), "worker": str(WORKER), "segment": segment,
            }  # fmt: skip
            connection.execute("BEGIN")
            for name in ("runs", "changes", "events", "books"):
                for statement in _SQL[name].split(";\n"):
                    connection.execute(statement, {key: v for key, v in values.items() if f"${key}" in statement})
            row = connection.execute(_SQL["last_seq"]).fetchone()
            connection.execute("COMMIT")
            last_seq = row[0] if row else last_seq
        return last_seq
    finally:
        connection.close()
