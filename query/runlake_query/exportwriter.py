"""Writes long results into files: in order, in bounded memory, and the same rows as the same bytes.

To put many rows in order at once holds them in memory, and so does DuckDB when it keeps an order that there is (1
million runs as NDJSON: 2.1 GiB). So a narrow query says between which times there are about STRETCH_ROWS rows, and one
such stretch after the other is put in order and written, each into a file, all in the caller's transaction. The parts
of CSV and NDJSON one after the other are the export. A Parquet file has one footer for all: its parts are written once
more by `join_parquet`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from runlake.lake.duck import quote
from runlake.sqlfile import load_queries
from runlake_query.formats import CSV, NDJSON, PARQUET, Format
from runlake_query.problems import TooSlow
from runlake_query.reader import Snapshot

STRETCH_ROWS = 100_000
_SAMPLE_ROWS = 1_000_000
"""From about so many times it is told where the stretches begin."""
_JOIN_MEMORY = "256MiB"
_INTERRUPT_EVERY_S = 0.05
_SQL = load_queries("runlake_query", "exports.sql")
_OPTIONS = {
    CSV: "FORMAT csv, HEADER true, USE_TMP_FILE false",
    NDJSON: "FORMAT json, USE_TMP_FILE false",
    PARQUET: "FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false",
}
_FIRST_PART = {**_OPTIONS, PARQUET: "FORMAT parquet, COMPRESSION snappy, USE_TMP_FILE false"}
_LATER_PART = {**_FIRST_PART, CSV: "FORMAT csv, HEADER false, USE_TMP_FILE false"}


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


class Cut(NamedTuple):
    """How rows are cut."""

    conditions: list[str]
    """One of each stretch, in the order of the rows."""
    rows: int | None
    """How many rows there are in all; None of a single stretch, which is written before it would be counted."""


class Part(NamedTuple):
    """A stretch, written."""

    path: Path
    rows: int
    bytes: int


def cut(snapshot: Snapshot, rows: Rows, stretch_rows: int = STRETCH_ROWS) -> Cut:
    """Cut the rows into stretches of about so many; of one time there may be more."""
    if rows.timed is None:
        return Cut(["true"], None)
    column, times, descends = rows.timed
    (count,) = snapshot.one(_SQL["count_times"].format(times=times), rows.values)
    pieces = -(-count // stretch_rows)
    if pieces <= 1:
        return Cut(["true"], None)
    shares = [number / pieces for number in range(1, pieces)]
    every = max(1, count // _SAMPLE_ROWS)
    edges_query = _SQL["edges"].format(times=times, shares=shares, every=every)
    (found,) = snapshot.one(edges_query, rows.values)
    edges = sorted(set(found or ()))
    if not edges:
        return Cut(["true"], None)
    conditions = [
        _SQL["before"].format(column=column, edge=edges[0]),
        *(_SQL["between"].format(column=column, edge=low, end=high) for low, high in pairwise(edges)),
        _SQL["since"].format(column=column, edge=edges[-1]),
    ]
    return Cut(conditions[::-1] if descends else conditions, count if rows.limit is None else min(count, rows.limit))


def write(
    snapshot: Snapshot,
    rows: Rows,
    conditions: Sequence[str],
    path: Path,
    kind: Format,
    turn: AbstractContextManager[Any],
) -> Iterator[Part]:
    """Write each stretch, within a `turn`, into a file beside `path`, with a longer name; yields it when it is written.
    What was being written when it fails is removed. Raises duckdb.Error, OSError."""
    whole, left = len(conditions) == 1, rows.limit
    for number, condition in enumerate(conditions):
        if number and left == 0:
            return
        options = _OPTIONS[kind] if whole else (_FIRST_PART if number == 0 else _LATER_PART)[kind]
        file = path.with_name(f"{path.name}.{number}")
        try:
            with turn:
                count = _copy(snapshot, rows, condition, file, options, left)
            part = Part(file, count, file.stat().st_size)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        yield part
        if left is not None:
            left -= count


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


def _copy(snapshot: Snapshot, rows: Rows, condition: str, path: Path, options: str, limit: int | None) -> int:
    query, values = rows.query(condition), dict(rows.values)
    if limit is not None:
        query, values["limit"] = _SQL["limited"].format(query=query), limit
    (count,) = snapshot.one(copy_statement(query, path, options), values)
    return int(count)
