"""Copies of the lake's catalog: the only way in which this process reads the lake.

Each is attached in a DuckDB beside the read model's, for what is asked of the lake alone, and in the read model's own,
for the few queries of both. A reader borrows the newest copy; a replaced copy is detached and deleted once nobody holds
it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import duckdb

from runlake.lake.attach import Watch
from runlake.lake.duck import load_for
from runlake.lake.sqlitecatalog import attach_copy
from runlake_query.folder import Folder
from runlake_query.lookout import LakeDatabase, Lookout
from runlake_query.positions import Positions


class Copy:
    """One attached copy. `name` is what DuckDB calls it; `positions` is how far each worker had flushed."""

    def __init__(self, name: str, file: Path, database: LakeDatabase) -> None:
        self.name = name
        self.file = file
        self._database = database
        self.positions: Positions = {}
        self.holders = 0

    def cursor(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """For one thread that holds the copy: a connection to a DuckDB that has the lake alone, under the same name."""
        return self._database.cursor()

    def drop(self) -> None:
        """Nobody asks it any more. Raises duckdb.Error."""
        try:
            self._database.detach(self.name)
        finally:
            _delete(self.file)


class Copies:
    """Makes and drops copies (one thread at a time) and lends them (any thread)."""

    def __init__(self, folder: Folder, cursor: duckdb.DuckDBPyConnection) -> None:
        self._folder = folder
        self._cursor = cursor
        self._lock = threading.Lock()
        self._made = 0
        self._ready = False
        self._newest: Copy | None = None
        self._replaced: list[Copy] = []

    @contextmanager
    def make(self, watch: Watch, lookout: Lookout) -> Iterator[tuple[Copy, duckdb.DuckDBPyConnection]]:
        """Copy the catalog for a block that asks it, by the connection that it is given; then it is attached beside the
        read model too, and not yet lent. Raises LakeError, LakeUnavailable, duckdb.Error.

        What is attached there is what the block has asked, or (in PostgreSQL) newer.
        """
        self._made += 1
        name, file = f"lake_{self._made}", self._folder.catalog_copy(self._made)
        try:
            database = lookout.attach(watch, name, file)
        except BaseException:
            _delete(file)
            raise
        copy = Copy(name, file, database)
        try:
            with copy.cursor() as cursor:
                yield copy, cursor
            if not self._ready:
                load_for(self._cursor, lookout.place)
                self._ready = True
            self._attach(watch, copy)
        except BaseException:
            lookout.close()
            copy.drop()
            raise

    def _attach(self, watch: Watch, copy: Copy) -> None:
        if copy.file.exists():
            attach_copy(self._cursor, copy.file, copy.name)
        else:
            watch.attach(self._cursor, copy.name, copy.file)

    def discard(self, copy: Copy) -> None:
        """Drop a copy that was made and never lent."""
        self._drop(copy)

    def publish(self, copy: Copy, positions: Positions) -> None:
        """Lend this copy from now on; those before it are dropped by a `sweep` once nobody holds them."""
        copy.positions = positions
        with self._lock:
            if self._newest is not None:
                self._replaced.append(self._newest)
            self._newest = copy

    @property
    def replaced(self) -> int:
        """How many copies wait to be dropped."""
        return len(self._replaced)

    def sweep(self) -> None:
        """Drop the replaced copies that nobody holds."""
        with self._lock:
            free = [copy for copy in self._replaced if copy.holders == 0]
            self._replaced = [copy for copy in self._replaced if copy.holders]
        for copy in free:
            self._drop(copy)

    @contextmanager
    def borrow(self) -> Iterator[Copy]:
        """The newest copy, for as long as the block runs. Only after the first catch-up."""
        with self._lock:
            copy = self._newest
            if copy is None:
                raise RuntimeError("no copy of the lake has been published")
            copy.holders += 1
        try:
            yield copy
        finally:
            with self._lock:
                copy.holders -= 1

    def close(self) -> None:
        """Drop all copies; nobody may hold one any more."""
        with self._lock:
            copies = [*self._replaced, *([self._newest] if self._newest else [])]
            self._replaced, self._newest = [], None
        for copy in copies:
            self._drop(copy)

    def _drop(self, copy: Copy) -> None:
        try:
            self._cursor.execute(f"DETACH {copy.name}")
        finally:
            copy.drop()


def _delete(file: Path) -> None:
    for path in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        path.unlink(missing_ok=True)
