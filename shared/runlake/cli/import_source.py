"""The database file of the earlier telemetry service, row by row: tables `runs` and `events`; never written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from runlake.cli.failure import CommandFailed

TABLES = ("runs", "events")
_REQUIRED = {"runs": {"run_id", "agent_name", "job_type", "start_time"}, "events": {"run_id"}}


class ImportSource:
    """An open file. Raises CommandFailed when it is not such a database."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise CommandFailed(f"{path} is no file.")
        self.path = path
        self._connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
        self._connection.text_factory = _text
        try:
            self.columns = {table: self._columns_of(table) for table in TABLES}
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise CommandFailed(f"{path} cannot be read as a SQLite database: {error}.") from None
        missing = sorted(_REQUIRED["runs"] - set(self.columns["runs"]))
        if missing:
            self._connection.close()
            raise CommandFailed(f"{path} has no table `runs` with the columns {', '.join(missing)}.")

    def count(self, table: str) -> int:
        """How many rows a table has; 0 when there is none."""
        if not self.columns[table]:
            return 0
        (count,) = self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)

    def rows(self, table: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows after a rowid, in order, each with its rowid."""
        columns = self.columns[table]
        if not columns:
            return
        names = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
        query = f"SELECT rowid, {names} FROM {table} WHERE rowid > ? ORDER BY rowid"
        with closing(self._connection.execute(query, (after,))) as cursor:
            for rowid, *values in cursor:
                yield rowid, dict(zip(columns, values, strict=True))

    def close(self) -> None:
        self._connection.close()

    def _columns_of(self, table: str) -> list[str]:
        return [name for _, name, *_ in self._connection.execute(f"PRAGMA table_info({table})")]


def _text(raw: bytes) -> str:
    """Text that is not UTF-8 was written by something else; what can be read of it is kept."""
    return raw.decode("utf-8", "replace")
