"""Files of a lake in object storage, on this machine: for the sandbox, which has no network.

A Parquet file never changes; so of one that is here already a link is made.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from runlake.lake.duck import quote
from runlake.lake.place import S3
from runlake.sqlfile import load_queries
from runlake_query.problems import Problem
from runlake_query.reader import Snapshot

_SQL = load_queries("runlake_query.sql", "fetching.sql")


class NoRoom(Problem):
    """503: the disk has no room for a copy of what is in object storage."""

    def __init__(self, missing: int, free: int) -> None:
        super().__init__(
            503,
            f"SQL over a lake in object storage reads a copy of its events here: {missing:,} bytes are missing, and"
            f" this disk has {free:,} free, half of which may be used. Give RUNLAKE_READ_MODEL a larger disk, or attach"
            " the lake in DuckDB elsewhere.",
            headers={"Retry-After": "600"},
        )


class LakeFile(NamedTuple):
    """A Parquet file of events, and the file that says which of its rows are deleted."""

    data: str
    data_bytes: int
    delete: str | None
    delete_bytes: int | None


def fetch(snapshot: Snapshot, files: Sequence[LakeFile], target: Path, before: Path | None) -> None:
    """Have those of the files that are in object storage in `target`: as links to what is in `before`, else as copies.

    Raises NoRoom, duckdb.Error, OSError.
    """
    target.mkdir()
    missing = 0
    wanted = []
    for file in files:
        for path, size in ((file.data, file.data_bytes), (file.delete, file.delete_bytes)):
            if path is None or not path.startswith(S3) or _linked(before, target, PurePosixPath(path).name):
                continue
            wanted.append(path)
            missing += size or 0
    free = shutil.disk_usage(target).free
    if missing > free // 2:
        raise NoRoom(missing, free)
    for path in wanted:
        place = target / PurePosixPath(path).name
        snapshot.rows(_SQL["fetch"].format(file=quote(path), path=quote(str(place))))


def _linked(before: Path | None, target: Path, name: str) -> bool:
    if before is None:
        return False
    try:
        (target / name).hardlink_to(before / name)
    except OSError:  # another file system, or it was removed just now
        return False
    return True


def here(file: str, folder: Path) -> str:
    """Where a file of the lake is on this machine."""
    return str(folder / PurePosixPath(file).name) if file.startswith(S3) else file
