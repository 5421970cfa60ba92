"""Reading a catalog that is a SQLite file: through a private copy of it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

import duckdb

from runlake.errors import LakeUnavailable, NoLakeYet
from runlake.lake.duck import CATALOG, load_for, quote
from runlake.lake.place import LakePlace
from runlake.sqlfile import load_queries

_SQL = load_queries("runlake.lake", "attach.sql")
BUSY_TIMEOUT_MS = 30_000
_GUEST_TRIES = 20
_GUEST_PAUSE_S = 0.01
_T = TypeVar("_T")


class _Rest(NamedTuple):
    """A catalog that nobody has open. It changes only after somebody has opened it."""

    inode: int
    size: int
    changed_ns: int


class SqliteWatch:
    """Watches the live SQLite catalog from a process that never attaches it in DuckDB, and makes copies of it.

    Two SQLite libraries in one process break each other's locks on one file; so this process opens the live catalog
    with Python's `sqlite3` only, and DuckDB reads copies. One thread uses it.

    A user who may read the catalog and not write its folder can do so while somebody has it open: then its -wal and
    -shm are there. Without them SQLite reads for such a user only what it is told never changes. That holds while
    nobody has the catalog open, and after each use of it is seen whether it was so all the time.
    """

    def __init__(self, catalog: Path, place: LakePlace | None = None) -> None:
        """`place`: that of the lake, where a DuckDB needs more than the usual extensions to read its files."""
        self._path = catalog
        self._to_load = place
        self._connection: sqlite3.Connection | None = None
        self._opened = 0
        self._inode: tuple[int, int] | None = None
        self._rest: _Rest | None = None

    def version(self) -> object:
        """Differs from the last one when the catalog has changed, or is another file now. Raises LakeUnavailable."""
        self._notice_replaced()

        def read(connection: sqlite3.Connection) -> tuple[int, int]:
            if self._rest is not None:
                return 0, self._rest.changed_ns
            return self._opened, int(connection.execute("PRAGMA data_version").fetchone()[0])

        return self._inode, self._read(read)

    def attach(self, connection: duckdb.DuckDBPyConnection, name: str, file: Path) -> None:
        """Attach the catalog as it stands, as `name`, through a copy in `file`. Raises LakeUnavailable,
        duckdb.Error."""
        if self._to_load is not None:
            load_for(connection, self._to_load)
            self._to_load = None
        self.copy_to(file)
        attach_copy(connection, file, name)

    def copy_to(self, target: Path) -> None:
        """Write a consistent copy of the catalog to `target`, replacing it. Raises LakeUnavailable."""

        def copy(connection: sqlite3.Connection) -> None:
            target.unlink(missing_ok=True)
            with closing(sqlite3.connect(target)) as made:
                connection.backup(made)

        self._read(copy)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._rest = None

    def _notice_replaced(self) -> None:
        """A file that was replaced (restored from a backup, say) is another one under the same name."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self.close()
            self._inode = None
            raise self._missing() from None
        inode = (status.st_dev, status.st_ino)
        if inode != self._inode:
            self.close()
            self._inode = inode

    def _read(self, read: Callable[[sqlite3.Connection], _T]) -> _T:
        """Use the catalog. Who cannot write its folder tries again when it was opened or closed just then."""
        tries = 1 if os.access(self._path.parent, os.W_OK) else _GUEST_TRIES
        while True:
            tries -= 1
            try:
                found = read(self._open())
                if self._rest is None or self._rest == self._at_rest():
                    return found
                reason = "it was opened for writing meanwhile"
            except (sqlite3.Error, OSError) as error:
                if not tries:
                    self.close()
                    raise self._unreadable(str(error)) from error
                reason = str(error)
            self.close()
            if not tries:
                raise self._unreadable(reason)
            time.sleep(_GUEST_PAUSE_S)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if not self._path.is_file():
                raise self._missing()
            self._opened += 1
            self._rest = None if os.access(self._path.parent, os.W_OK) else self._at_rest()
            how = "mode=rw" if self._rest is None else "mode=ro&immutable=1"
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?{how}",
                uri=True,
                timeout=BUSY_TIMEOUT_MS / 1000,
                check_same_thread=False,
            )
            self._connection.execute("PRAGMA query_only = true")
        return self._connection

    def _at_rest(self) -> _Rest | None:
        """What the catalog is, when nobody has it open: who closes it last takes its -wal away."""
        if self._path.with_name(f"{self._path.name}-wal").exists():
            return None
        status = self._path.stat()
        return _Rest(status.st_ino, status.st_size, status.st_mtime_ns)

    def _missing(self) -> NoLakeYet:
        return NoLakeYet(f"There is no catalog at {self._path} yet: the ingest worker makes it.")

    def _unreadable(self, reason: str) -> LakeUnavailable:
        return LakeUnavailable(f"The catalog {self._path} cannot be read: {reason}")


def attach_copy(connection: duckdb.DuckDBPyConnection, copy: Path, name: str = CATALOG) -> None:
    """Attach a private copy of a catalog, read-only, as `name`. `name` is one of our own identifiers."""
    connection.execute(_SQL["sqlite_copy"].format(catalog=quote(f"ducklake:sqlite:{copy}"), name=name))
