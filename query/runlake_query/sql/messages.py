"""What goes between the query process and a sandbox: one line of JSON each way for each question."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Scalar = str | int | float | bool | None
"""A value that a statement may bind."""


class Confined(Struct, frozen=True):
    """A sandbox's first line: by what it is held, beside DuckDB's own locks and the limits of its resources."""

    network: str
    """`namespace`, or why there is none."""
    files: str
    """`landlock`, or why there is none."""


class Ask(Struct, frozen=True, kw_only=True):
    """A statement, the files that it may read, and its bounds."""

    sql: str
    parameters: list[Scalar] | dict[str, Scalar]
    runs: str
    """A Parquet file: the runs as they are shown."""
    recent: str
    """A Parquet file: events that the lake does not have yet."""
    events: list[str]
    """The lake's Parquet files of events."""
    deletes: list[str]
    """Parquet files that say which rows of `events` were removed."""
    positions: dict[str, int]
    """By worker, the last `seq` of those files that counts: they may hold more than the answer reflects."""
    folder: str
    """An empty folder for the result, and for what does not fit in memory."""
    format: str
    max_rows: int
    max_bytes: int
    memory_mib: int
    spill_mib: int
    threads: int
    deadline_s: float


class Column(Struct, frozen=True):
    """A column of a result: its name, and its type as DuckDB calls it."""

    name: str
    type: str


class Told(Struct, frozen=True, kw_only=True):
    """What became of it. `refused`: the statement is not one that may run; `failed`: it ran into an error."""

    outcome: Literal["done", "refused", "failed", "too_slow"]
    detail: str = ""
    columns: list[Column] = []
    rows: int = 0
    truncated: bool = False
