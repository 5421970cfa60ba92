"""Small DuckDBs beside the read model's own, in which the versions of the lake's catalog are asked.

The first query of a DuckLake table leaves that version's tables and their statistics in DuckDB's object cache: 0.1 MB
and more. Neither DETACH nor, in DuckDB 1.5, anything else short of the memory limit frees them, but for the end of the
DuckDB. A version comes with every flush, every two seconds; in the read model's DuckDB that was 7 GB of memory a day.
So the follower's looks and what readers ask of the lake alone go to these. When one has had some of them, those
that follow go to a new one, and it is closed with the last version in it that is lent: with all that it holds, also of
the lake's files. To attach a version, as the read model does for the few queries of both, leaves nothing behind.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from runlake.lake.attach import Watch
from runlake.lake.duck import connect, quote
from runlake.lake.place import LakePlace
from runlake.sqlfile import load_queries

_VERSIONS = 64
"""How many versions one DuckDB has: some 10 MB, and a new one costs a few times what a look does."""
_SQL = load_queries("runlake_query", "lookout.sql")


class LakeDatabase:
    """A DuckDB in which versions of the catalog are attached. Any thread; closed when it is `done` and has none."""

    def __init__(self, place: LakePlace, spill: Path, versions: int, *, many_threads: bool) -> None:
        """`spill`: where a query that needs much memory may put some; `versions`: how many it takes. Raises LakeError,
        duckdb.Error."""
        memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**22  # a quarter of the machine's
        self._root = connect(place=place, threads=None if many_threads else 1, memory_limit=f"{memory_mib}MiB")
        self._lock = threading.Lock()
        self._attached: set[str] = set()
        self._left = versions
        self._done = False
        try:
            self._root.execute(f"SET GLOBAL temp_directory = {quote(str(spill))}")
            self._root.execute("SET GLOBAL TimeZone = 'UTC'")  # for cursors too
            self._root.execute(_SQL["rfc3339"])
            self._cursor = self._root.cursor()
        except BaseException:
            self._root.close()
            raise

    @property
    def is_done(self) -> bool:
        """Whether it takes no further version."""
        return self._done or self._left <= 0

    def attach(self, watch: Watch, name: str, file: Path) -> None:
        """Attach the catalog as it stands, as `name`. Raises LakeError, LakeUnavailable, duckdb.Error."""
        with self._lock:
            self._left -= 1
            watch.attach(self._cursor, name, file)
            self._attached.add(name)

    def detach(self, name: str) -> None:
        """Let go of a version that nobody asks any more. Again is harmless. Raises duckdb.Error."""
        with self._lock:
            if name in self._attached:
                self._attached.remove(name)
                if not self._closed_when_over():
                    self._cursor.execute(f"DETACH {name}")

    def done(self) -> None:
        """Take no further version. Idempotent."""
        with self._lock:
            self._done = True
            self._closed_when_over()

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """For one thread, while a version is attached that it asks."""
        cursor = self._root.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def _closed_when_over(self) -> bool:
        over = self.is_done and not self._attached
        if over:
            self._cursor.close()
            self._root.close()
        return over


class Lookout:
    """Attaches versions, each in the newest of its databases. One thread uses it."""

    def __init__(self, place: LakePlace, folder: Path, versions: int = _VERSIONS) -> None:
        """`folder`: the query process's own; `versions`: how many of them one database has."""
        self.place = place
        self._spill = folder / "lake.tmp"
        self._versions = versions
        self._newest: LakeDatabase | None = None

    def attach(self, watch: Watch, name: str, file: Path, reading: duckdb.DuckDBPyConnection) -> LakeDatabase:
        """Attach the catalog as it stands, as `name`, which whoever asked for it detaches.

        `file`: where a copy of it may go, which the caller removes; `reading`: a cursor of the read model. Raises
        LakeError, LakeUnavailable, duckdb.Error.
        """
        database = self._newest
        if database is None or database.is_done:
            ((many_threads,),) = reading.execute(_SQL["threads"]).fetchall()
            database = self._newest = LakeDatabase(self.place, self._spill, self._versions, many_threads=many_threads)
        try:
            database.attach(watch, name, file)
        except BaseException:
            self.close()
            raise
        return database

    def close(self) -> None:
        """Free what it holds, once none of its versions is lent any more. The next use opens another one."""
        database, self._newest = self._newest, None
        if database is not None:
            database.done()
