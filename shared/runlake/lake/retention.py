"""Removing whole runs from the lake: those whose last change is older than a horizon, and those to be forgotten.

A run is old when all that was said of it is, both by the message's own time and by that of its receipt. Messages from
before the horizon are refused from then on, so that what was removed cannot come back as new; the same holds for all
messages of a run that was forgotten. Events that name no run are kept. What is removed is noted (`removals`), so that
positions can still be accounted for, and read models take the runs out. All of it in the caller's transaction; the rows
themselves go from the disk when maintenance rewrites the files that they were in, and removes the old ones.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import duckdb

from runlake.sqlfile import load_queries

_SQL = load_queries("runlake.lake", "retention.sql")
RUNS_AT_ONCE = 10_000


class Found(NamedTuple):
    """A run, and how many changes and events it has."""

    event_id: UUID
    run_id: str
    status: str
    created_at: str
    changes: int
    events: int


def horizon_of(connection: duckdb.DuckDBPyConnection, lake: str) -> int:
    """Before when messages are expired, Unix seconds; 0 when none are. Raises duckdb.Error."""
    row = connection.execute(_SQL["horizon"].format(lake=lake)).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def forgotten_runs(connection: duckdb.DuckDBPyConnection, lake: str) -> frozenset[int]:
    """The runs to forget, as integers. Raises duckdb.Error."""
    rows = connection.execute(_SQL["forgotten"].format(lake=lake)).fetchall()
    return frozenset(UUID(run).int for (run,) in rows)


def find_run(connection: duckdb.DuckDBPyConnection, lake: str, name: str) -> Found | None:
    """The run that an event_id or a run_id means; None when there is none. Raises duckdb.Error."""
    row = connection.execute(_SQL["find"].format(lake=lake), {"run": name}).fetchone()
    if row is None:
        return None
    extent = connection.execute(_SQL["extent"].format(lake=lake), {"run": row[0]}).fetchone()
    changes, events = extent or (0, 0)
    return Found(UUID(row[0]), row[1], row[2], row[3], changes, events)


def ask_to_forget(connection: duckdb.DuckDBPyConnection, lake: str, run: UUID, now: datetime) -> None:
    """Have the worker forget a run. Raises duckdb.Error."""
    connection.execute(_SQL["ask"].format(lake=lake), {"run": str(run), "now": now.isoformat()})


def count_old(connection: duckdb.DuckDBPyConnection, lake: str, horizon: int) -> int:
    """How many runs are older than `horizon`, Unix seconds. Raises duckdb.Error."""
    if not _candidates(connection, lake, horizon):
        return 0
    query = _SQL["count_old"].format(old=_SQL["old"].format(lake=lake))
    row = connection.execute(query, {"horizon": horizon}).fetchone()
    return int(row[0]) if row else 0


def count_forgotten(connection: duckdb.DuckDBPyConnection, lake: str) -> int:
    """How many of the runs to forget still have anything. Raises duckdb.Error."""
    row = connection.execute(_SQL["count_forgotten"].format(lake=lake)).fetchone()
    return int(row[0]) if row else 0


def remove_old(connection: duckdb.DuckDBPyConnection, lake: str, horizon: int, now: datetime) -> int:
    """Put a horizon in force, and remove up to RUNS_AT_ONCE older runs; returns how many. Raises duckdb.Error."""
    at = {"horizon": horizon, "now": now.isoformat()}
    connection.execute(_SQL["set_horizon"].format(lake=lake), at)
    if not _candidates(connection, lake, horizon):
        return 0
    choose = _SQL["choose_old"].format(old=_SQL["old"].format(lake=lake))
    connection.execute(choose, {"horizon": horizon, "most": RUNS_AT_ONCE})
    return _remove(connection, lake, now, "old")


def remove_forgotten(connection: duckdb.DuckDBPyConnection, lake: str, now: datetime) -> int:
    """Remove what is there of the runs to forget; returns how many of them had anything. Raises duckdb.Error."""
    connection.execute(_SQL["choose_forgotten"].format(lake=lake))
    return _remove(connection, lake, now, "forgotten")


def _candidates(connection: duckdb.DuckDBPyConnection, lake: str, horizon: int) -> int:
    """Find the runs that may be old; returns how many."""
    connection.execute(_SQL["choose_candidates"].format(lake=lake), {"horizon": horizon})
    row = connection.execute(_SQL["count_candidates"]).fetchone()
    return int(row[0]) if row else 0


def _remove(connection: duckdb.DuckDBPyConnection, lake: str, now: datetime, why: str) -> int:
    row = connection.execute(_SQL["note"].format(lake=lake), {"now": now.isoformat(), "why": why}).fetchone()
    removed = int(row[0]) if row else 0
    if removed:
        for name in ("remove_changes", "remove_events"):
            connection.execute(_SQL[name].format(lake=lake))
    return removed
