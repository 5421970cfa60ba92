"""The way by which DuckDB reaches the Parquet files of a lake that it writes, shut while a COMMIT runs.

When a COMMIT fails, DuckLake deletes the files that its transaction wrote. But a COMMIT whose answer was lost may have
landed: then the catalog lists files that are gone, and with them what they held; nobody can know it in time. So DuckDB
reaches the files through a door. It is shut while a COMMIT runs, and when that fails it stays shut until the connection
has ended: whatever DuckLake then tries to delete, it finds nothing. What a transaction that did not land leaves behind,
maintenance removes as it does all that was never committed.

- A folder is reached as `/proc/self/fd/N/`, N being a descriptor of it; shut, N is one of /dev/null. The catalog has
  paths below its own storage, so that nobody else sees any of this. Where there is no /proc, there is no door.
- Object storage is reached by DuckDB's secret; shut, that one says a port of this machine that nobody listens on.

A COMMIT reads and writes no file of the lake. Others who read by the same DuckDB pass through the door too: they wait
for a COMMIT, which takes milliseconds (for seconds, should the catalog not answer it), and it waits for them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import duckdb

from runlake.errors import LakeUnavailable
from runlake.lake.objectstore import give_credentials, take_credentials
from runlake.lake.place import LakePlace

_DESCRIPTORS = Path("/proc/self/fd")
_WAIT_S = 60.0
"""For how long a COMMIT waits for readers."""
_READER_WAITS_S = 10.0


class Way(Protocol):
    """How DuckDB reaches the files. Methods raise OSError, duckdb.Error, LakeError."""

    data_path: str
    """What to tell DuckLake instead of the storage; "" when it is the storage."""

    def open(self) -> None:
        """Idempotent."""

    def shut(self) -> None:
        """Idempotent."""

    def end(self) -> None:
        """Shut it for good. Idempotent."""


class FileDoor:
    """For any thread, but one at a time commits."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._turn = threading.Condition()
        self._inside = 0
        self._is_shut = False
        self._stays_shut = False

    @property
    def data_path(self) -> str:
        """What to tell DuckLake instead of the storage; "" when it is the storage."""
        return self._way.data_path

    @property
    def stays_shut(self) -> bool:
        """Whether a COMMIT failed: it may have landed, and the connection is beyond use."""
        return self._stays_shut

    @contextmanager
    def passing(self) -> Iterator[None]:
        """For as long as the block runs the files can be reached. Raises LakeUnavailable."""
        with self._turn:
            if not self._turn.wait_for(lambda: not self._is_shut or self._stays_shut, _READER_WAITS_S):
                raise LakeUnavailable("A COMMIT to the lake does not end.")
            if self._stays_shut:
                raise LakeUnavailable("The lake is being opened anew.")
            self._inside += 1
        try:
            yield
        finally:
            with self._turn:
                self._inside -= 1
                self._turn.notify_all()

    def commit(self, connection: duckdb.DuckDBPyConnection) -> None:
        """COMMIT the connection's transaction. Raises duckdb.Error, OSError, LakeError: then it may have landed all the
        same, `stays_shut` says so, and the connection has to be closed before this door. Raises LakeUnavailable when
        readers do not get done: then nothing has been committed."""
        with self._turn:
            self._is_shut = True
            if not self._turn.wait_for(lambda: not self._inside, _WAIT_S):
                self._is_shut = False
                self._turn.notify_all()
                raise LakeUnavailable("Who reads the lake does not get done, so that nothing can be committed.")
        try:
            self._way.shut()
            connection.execute("COMMIT")
            self._way.open()
        except BaseException:
            with self._turn:
                self._stays_shut = True
                self._turn.notify_all()
            raise
        with self._turn:
            self._is_shut = False
            self._turn.notify_all()

    def close(self) -> None:
        """Close it for good, when the connection is closed. Idempotent."""
        with self._turn:
            self._is_shut = self._stays_shut = True
            self._turn.notify_all()
        self._way.end()


def file_door(connection: duckdb.DuckDBPyConnection, place: LakePlace) -> FileDoor:
    """A door, open, to the files of a lake, whose folder must be there. `connection`: of `duck.connect(place=place)`.
    Raises OSError."""
    folder = place.storage_folder
    if folder is None:
        return FileDoor(_SecretWay(connection.cursor(), place.storage, os.environ))
    return FileDoor(_FolderWay(folder) if _DESCRIPTORS.is_dir() else _NoDoor())


class _FolderWay:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.data_path = f"{_DESCRIPTORS}/{self._number}/"

    def open(self) -> None:
        self._become(os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY))

    def shut(self) -> None:
        if not os.path.samestat(os.fstat(self._number), self._folder.stat()):
            raise OSError(f"The folder {self._folder} is another one than what is to be committed was written to.")
        self._become(os.open(os.devnull, os.O_RDONLY))

    def end(self) -> None:
        if self._number >= 0:
            number, self._number = self._number, -1
            os.close(number)

    def _become(self, other: int) -> None:
        try:
            os.dup2(other, self._number, inheritable=False)
        finally:
            os.close(other)


class _SecretWay:
    data_path = ""

    def __init__(self, connection: duckdb.DuckDBPyConnection, storage: str, environ: Mapping[str, str]) -> None:
        self._connection = connection
        self._storage = storage
        self._environ = environ

    def open(self) -> None:
        give_credentials(self._connection, self._storage, self._environ)

    def shut(self) -> None:
        take_credentials(self._connection, self._storage)

    def end(self) -> None:
        with suppress(duckdb.Error):
            self._connection.close()


class _NoDoor:
    data_path = ""

    def open(self) -> None:
        pass

    def shut(self) -> None:
        pass

    def end(self) -> None:
        pass
