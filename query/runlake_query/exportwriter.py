"""Writes long results into a file: in order, in bounded memory, and the same rows as the same bytes.

To put many rows in order at once holds them in memory, and so does DuckDB when it keeps an order that there is (1
million runs as NDJSON: 2.1 GiB). So a narrow query says between which times there are about STRETCH_ROWS rows, and one
such stretch after the other is put in order and written, all in the caller's transaction. The parts of CSV and NDJSON
make a file as they are. A Parquet file has one footer for all: its parts are written once more by `join_parquet`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import duckdb

from runlake.lake.duck import quote
from runlake.sqlfile import load_queries
from runlake_query.formats import CSV, NDJSON, PARQUET, Format
from runlake_query.problems import TooSlow
from runlake_query.reader import Snapshot

STRETCH_ROWS = 100_000
_JOIN_MEMORY = "256MiB"
_INTERRUPT_EVERY_S = 0.05
_SQL = load_queries("runlake_query", "exports.sql")
_OPTIONS = {
    CSV: "FORMAT csv, HEADER true, USE_TMP_FILE false",
    NDJSON: "FORMAT json, USE_TMP_FILE false",
    PARQUET: "FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false",
}
_LATER_PART = {
    CSV: "FORMAT csv, HEADER false, USE_TMP_FILE false",
    NDJSON: _OPTIONS[NDJSON],
}
_PARQUET_PART = "FORMAT parquet, COMPRESSION snappy, USE_TMP_FILE false"


class Timed(NamedTuple):
    """How rows are cut into stretches."""

    column: str
    """Their time, by which they are ordered first."""
    all_of_them: str
    """A query of the times of all rows, as the column `moment`."""
    descends: bool


class Rows(NamedTuple):
    """What is written."""

    query: Callable[[str], str]
    """The query of the rows of a condition, in a total order."""
    values: dict[str, object]
    limit: int | None = None
    """How many rows at most."""
    timed: Timed | None = None
    """None where there are few: they are written at once."""


class Written(NamedTuple):
    """What was written."""

    rows: int
    parts: list[Path]
    """Parquet files that are to be joined; none where the file is complete."""


def write(snapshot: Snapshot, rows: Rows, path: Path, kind: Format, stretch_rows: int = STRETCH_ROWS) -> Written:
    """Write the rows into the file; parts are put beside it, with longer names. Raises duckdb.Error, OSError."""
    conditions = stretches(snapshot, rows, stretch_rows)
    if len(conditions) == 1:
        return Written(_copy(snapshot, rows, conditions[0], path, _OPTIONS[kind], rows.limit), [])
    if kind is PARQUET:
        return _write_parts(snapshot, rows, conditions, path)
    part, count = _part(path, 0), 0
    with path.open("wb") as file:
        for number, condition in enumerate(conditions):
            left = None if rows.limit is None else rows.limit - count
            if left == 0:
                break
            options = _LATER_PART[kind] if number else _OPTIONS[kind]
            count += _copy(snapshot, rows, condition, part, options, left)
            _append(part, file.fileno())
            part.unlink()
    return Written(count, [])


def stretches(snapshot: Snapshot, rows: Rows, stretch_rows: int = STRETCH_ROWS) -> list[str]:
    """Conditions that cut the rows, in their order, into stretches of about so many; of one time there may be more."""
    if rows.timed is None:
        return ["true"]
    column, times, descends = rows.timed
    (count,) = snapshot.one(_SQL["count_times"].format(times=times), rows.values)
    pieces = -(-count // stretch_rows)
    if pieces <= 1:
        return ["true"]
    shares = [number / pieces for number in range(1, pieces)]
    (found,) = snapshot.one(_SQL["edges"].format(times=times, shares=shares), rows.values)
    edges = sorted(set(found))
    cut = [
        _SQL["before"].format(column=column, edge=edges[0]),
        *(_SQL["between"].format(column=column, edge=low, end=high) for low, high in pairwise(edges)),
        _SQL["since"].format(column=column, edge=edges[-1]),
    ]
    return cut[::-1] if descends else cut


async def join_parquet(parts: Sequence[Path], path: Path, deadline_s: float) -> None:
    """Make one file of parts, and remove them. On one thread of a DuckDB of its own, so that the memory is bounded and
    the groups of rows are the same each time. Raises TooSlow, duckdb.Error."""
    connection = duckdb.connect(
        config={
            "threads": 1, "memory_limit": _JOIN_MEMORY, "temp_directory": f"{path}.tmp",
            "autoinstall_known_extensions": False, "autoload_known_extensions": False,
        }
    )  # fmt: skip
    names = f"[{', '.join(quote(str(part)) for part in parts)}]"
    query = _SQL["copy"].format(
        query=_SQL["parts"].format(parts=names), path=quote(str(path)), options=_OPTIONS[PARQUET]
    )
    work = asyncio.get_running_loop().run_in_executor(None, connection.execute, query)
    try:
        async with asyncio.timeout(deadline_s):
            await asyncio.shield(work)
    except TimeoutError:
        raise TooSlow(deadline_s) from None
    finally:
        while not work.done():  # an interruption may come before it has begun
            connection.interrupt()
            await asyncio.wait([work], timeout=_INTERRUPT_EVERY_S)
        work.exception()  # raised above, or asked for
        connection.close()
        for part in parts:
            part.unlink(missing_ok=True)


def copy_statement(query: str, path: Path, options: str) -> str:
    """What writes the rows of a query into a file."""
    return _SQL["copy"].format(query=query, path=quote(str(path)), options=options)


def _write_parts(snapshot: Snapshot, rows: Rows, conditions: Sequence[str], path: Path) -> Written:
    parts, count = list[Path](), 0
    for condition in conditions:
        left = None if rows.limit is None else rows.limit - count
        if left == 0:
            break
        parts.append(_part(path, len(parts)))
        count += _copy(snapshot, rows, condition, parts[-1], _PARQUET_PART, left)
    return Written(count, parts)


def _copy(snapshot: Snapshot, rows: Rows, condition: str, path: Path, options: str, limit: int | None) -> int:
    query, values = rows.query(condition), dict(rows.values)
    if limit is not None:
        query, values["limit"] = _SQL["limited"].format(query=query), limit
    (count,) = snapshot.one(copy_statement(query, path, options), values)
    return int(count)


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _append(part: Path, file: int) -> None:
    """Add what is in a file to the end of another one, in the kernel."""
    with part.open("rb") as source:
        while os.sendfile(file, source.fileno(), None, 2**30):
            pass
