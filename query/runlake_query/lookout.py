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
import shutil
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

    def __init__(self, place: LakePlace, spill: Path, versions: int) -> None:
        """`spill`: a folder of its own, where a query that needs much memory puts some, and which goes with it;
        `versions`: how many it takes. Raises LakeError, duckdb.Error."""
        memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**23  # an eighth of the machine's
        self._root = connect(place=place, threads=1, memory_limit=f"{memory_mib}MiB")
        self._spill = spill
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

    def have_background_threads(self) -> None:
        """Share the work of a query out among all cores, from now on: see `ReadModel.fit_threads`. Until then sorting
        takes less memory. Raises duckdb.Error."""
        with self._lock:
            if not self._is_over:
                self._cursor.execute(_SQL["all_threads"])

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """For one thread, while a version is attached that it asks."""
        cursor = self._root.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    @property
    def _is_over(self) -> bool:
        return self.is_done and not self._attached

    def _closed_when_over(self) -> bool:
        over = self._is_over
        if over:
            self._cursor.close()
            self._root.close()
            shutil.rmtree(self._spill, ignore_errors=True)
        return over


class Lookout:
    """Attaches versions, each in the newest of its databases. One thread at a time uses it."""

    def __init__(self, place: LakePlace, folder: Path, versions: int = _VERSIONS) -> None:
        """`folder`: the query process's own; `versions`: how many of them one database has."""
        self.place = place
        self._folder = folder
        self._versions = versions
        self._made = 0
        self._in_background = False
        self._newest: LakeDatabase | None = None

    def attach(self, watch: Watch, name: str, file: Path) -> LakeDatabase:
        """Attach the catalog as it stands, as `name`, which whoever asked for it detaches.

        `file`: where a copy of it may go, which the caller removes. Raises LakeError, LakeUnavailable, duckdb.Error.
        """
        database = self._newest
        if database is None or database.is_done:
            database = self._newest = self._make()
        try:
            database.attach(watch, name, file)
        except BaseException:
            self.close()
            raise
        return database

    def have_background_threads(self) -> None:
        """Have them in the newest database, and in those that follow. Raises duckdb.Error."""
        if not self._in_background:
            if self._newest is not None:
                self._newest.have_background_threads()
            self._in_background = True

    def close(self) -> None:
        """Free what it holds, once none of its versions is lent any more. The next use opens another one."""
        database, self._newest = self._newest, None
        if database is not None:
            database.done()

    def _make(self) -> LakeDatabase:
        # DuckDB calls what it spills alike in every instance: in one folder they would write over each other's.
        self._made += 1
        database = LakeDatabase(self.place, self._folder / f"lake-{self._made}.tmp", self._versions)
        if self._in_background:
            database.have_background_threads()
        return database
