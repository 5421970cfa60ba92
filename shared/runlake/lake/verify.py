"""Checks of a lake through a copy of its catalog: do the rows, the files and the catalog say the same?

What the checks prove: every position of every worker is there once; every message was accepted once; the books balance;
every live Parquet file is there, has its size, can be read to the end, and has its rows; and where events of a run
carry `event_hash`, each names the one before as its `prev_hash`. How a hash is made is the agents' affair: links are
checked, and not what they were made from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from runlake.fields import RUN_FIELDS
from runlake.lake.attach import CATALOG
from runlake.lake.duck import quote
from runlake.lake.maintenance import Limits, old_orphans
from runlake.lake.place import LakePlace
from runlake.lake.schema import stored_version
from runlake.sqlfile import load_queries

_SQL = load_queries("runlake.lake", "verify.sql")
_RETENTION = 3
"""The schema version from which on runs may be removed."""
_COMPUTED = ("cost_source", "cost_table_version")
_NAMES = {"lake": CATALOG, "meta": f"__ducklake_metadata_{CATALOG}"}


class Check(NamedTuple):
    """One thing that was looked at: what was found right, and what is wrong. Notes are neither. `left_open`: what could
    not be found out now, and may be later."""

    name: str
    looked_at: str
    wrong: list[str]
    notes: list[str]
    left_open: Sequence[str] = ()


def flushed(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[int, int]]:
    """By worker, the last segment and position that the lake has. Raises duckdb.Error."""
    rows = connection.execute(_SQL["flushed"].format(**_NAMES)).fetchall()
    return {worker: (int(segment), int(seq)) for worker, segment, seq in rows}


def runs_that_differ(connection: duckdb.DuckDBPyConnection, export: Path) -> list[str]:
    """What the lake's view `runs` and a Parquet export of the read model say otherwise. Raises duckdb.Error."""
    columns = [_comparable(field.name, field.sql_type) for field in RUN_FIELDS if field.name not in _COMPUTED]
    names = {"columns": ", ".join(columns), "path": quote(str(export))}
    said = {("lake",): "is in the lake alone", ("read model",): "is in the read model alone"}
    return [
        f"run {event_id} {said.get(tuple(sides), 'differs')}"
        for event_id, sides in connection.execute(_SQL["differing_runs"].format(**names, **_NAMES)).fetchall()
    ]


def _comparable(name: str, kind: str) -> str:
    """A column as it is compared: maps as their text without spaces, and costs as reported."""
    if kind == "JSON":
        return f"json({name})::VARCHAR AS {name}"
    if name == "cost_usd":  # a computed one is by the price list in force, which may have changed in between
        return "CASE WHEN cost_source = 'reported' THEN cost_usd END AS cost_usd"
    return f"{name}::{kind} AS {name}"


def live_files(connection: duckdb.DuckDBPyConnection, place: LakePlace) -> dict[str, tuple[int, int]]:
    """The Parquet files that the catalog names, with their sizes in bytes and their rows. Raises duckdb.Error."""
    rows = connection.execute(_SQL["live_files"].format(**_NAMES)).fetchall()
    return {
        f"{place.storage}main/{table}/{path}" if relative else path: (size, count)
        for table, path, relative, size, count in rows
    }


def check_files(connection: duckdb.DuckDBPyConnection, place: LakePlace, limits: Limits, now: Any) -> Check:
    """The Parquet files against the catalog. Raises duckdb.Error for the catalog's own faults."""
    live = live_files(connection, place)
    problems = ((file, _problem_of_file(connection, place, file, *said)) for file, said in live.items())
    wrong = [f"{file}: {problem}" for file, problem in problems if problem]
    size = sum(said for said, _ in live.values())
    notes = [
        f"{path}: no transaction has committed it; maintenance removes it"
        for path in old_orphans(connection, place, limits, now)
    ]
    return Check("files", f"{len(live):,} live files, {size:,} bytes", wrong, notes)


def _problem_of_file(connection: duckdb.DuckDBPyConnection, place: LakePlace, file: str, size: int, rows: int) -> str:
    """What is wrong with a file; "" when nothing is."""
    try:
        found = _size_of_file(connection, place, file)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except duckdb.Error as error:
        return f"it cannot be read: {error}"
    if found != size:
        return f"it has {found:,} bytes; the catalog says {size:,}"
    try:
        row = connection.execute(_SQL["read_file"].format(path=quote(file))).fetchone()
    except duckdb.Error as error:
        return f"it cannot be read: {error}"
    read = row[0] if row else 0
    return "" if read == rows else f"it has {read:,} rows; the catalog says {rows:,}"


def _size_of_file(connection: duckdb.DuckDBPyConnection, place: LakePlace, file: str) -> int:
    if place.storage_folder is not None:
        return Path(file).stat().st_size
    row = connection.execute(_SQL["size_of_file"].format(path=quote(file))).fetchone()
    return int(row[0]) if row else 0


def check_rows(connection: duckdb.DuckDBPyConnection) -> Iterator[Check]:
    """The rows against each other. Raises duckdb.Error when they cannot be read: `check_files` says why."""

    names = {**_NAMES, "given_out": _SQL["given_out"], "with_before": _SQL["with_before"].format(**_NAMES)}

    def rows(name: str) -> Sequence[tuple[Any, ...]]:
        return connection.execute(_SQL[name].format(**names)).fetchall()

    messages = f"{rows('messages')[0][0]:,} messages"
    keeps_all = stored_version(connection, CATALOG) < _RETENTION
    removed = _SQL["nothing_removed" if keeps_all else "removed"].format(**_NAMES)
    positions = [
        f"worker {worker}: {repeated:,} positions repeated, {missing:,} missing"
        for worker, repeated, missing in connection.execute(
            _SQL["positions"].format(removed=removed, **names)
        ).fetchall()
    ]
    positions += [
        f"worker {worker}: segment {segment} begins at {first:,}, and the one before ended at {before:,}"
        for worker, segment, first, before in rows("flushes")
    ]
    yield Check("positions", messages, positions, [])
    yield Check("ids", messages, [f"{event_id} is there {count} times" for event_id, count in rows("ids")], [])
    yield Check("books", "every batch", [f"{whose} does not balance" for (whose,) in rows("books")], [])
    hashed = f"{rows('hashed_events')[0][0]:,} events with a hash"
    chains = [f"event {event_id} of run {run} does not follow the one before" for event_id, run in rows("chains")]
    yield Check("hash chains", hashed, chains, [])
