"""What reads much at a time, exports and SQL: its reader, its folder, and its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from runlake.logs import Log
from runlake_query.exports import MAX_AT_ONCE, Exports
from runlake_query.freshness import Freshness
from runlake_query.gateway import Gateway
from runlake_query.progress import Progress
from runlake_query.reader import Reader
from runlake_query.sql.extracts import Extracts
from runlake_query.sql.sandboxes import Bounds, Sandboxes
from runlake_query.sql.service import Sql

READ_DEADLINE_S = 3_000.0
"""How long copying rows out may take: beside it newer versions of rows pile up, and the lake keeps files that were
replaced for an hour."""
THREADS = MAX_AT_ONCE + 2
"""An export has one until its last rows are on the disk, and may have to wait with it; others are for users' SQL."""
WAITING = 8


class Bulk(NamedTuple):
    """`reader` is one of its own, so that no copy of many rows keeps a page waiting for a thread."""

    reader: Reader
    folder: Path
    storage: Path | None
    sql: bool
    sql_bounds: Bounds

    def exports(self, freshness: Freshness, progress: Progress, log: Log) -> Exports:
        return Exports(self.reader, self.folder / "exports", freshness, progress, log)

    def sql_service(self, freshness: Freshness, progress: Progress, gateway: Gateway, log: Log) -> Sql:
        folder = self.folder / "sql"
        return Sql(
            Extracts(self.reader, folder, lambda: progress.positions, lambda: self.reader.generation),
            Sandboxes(self.storage, folder, self.sql_bounds, log),
            folder,
            freshness,
            progress,
            lambda: gateway.acknowledged,
            enabled=self.sql,
        )
