"""Attaching the lake: by its one writer, or through a private copy of its catalog by readers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from runlake.errors import LakeUnavailable
from runlake.lake.duck import quote
from runlake.lake.durability import make_folder

CATALOG = "lake"
"""The name under which our own connections attach the lake."""
_BUSY_TIMEOUT_MS = 30_000


def attach_for_writing(connection: duckdb.DuckDBPyConnection, catalog_path: Path, storage: str) -> None:
    """Attach the live catalog as `lake`, making it when it is missing.

    Rows go to Parquet, not into the catalog (but for `flushes`, see `inline_flushes`). The catalog is in WAL mode:
    readers never block the writer.
    """
    make_folder(catalog_path.parent)
    make_folder(Path(storage))
    connection.execute(
        f"ATTACH {quote(f'ducklake:sqlite:{catalog_path}')} AS {CATALOG} (DATA_PATH {quote(storage)},"
        f" DATA_INLINING_ROW_LIMIT 0, META_JOURNAL_MODE 'WAL', META_BUSY_TIMEOUT {_BUSY_TIMEOUT_MS})"
    )


def inline_flushes(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep the small rows of `flushes` in the catalog itself: a Parquet file for each would be a waste."""
    connection.execute(f"CALL {CATALOG}.set_option('data_inlining_row_limit', 100, table_name => 'flushes')")


class CatalogWatch:
    """Watches the live SQLite catalog from a process that never attaches it in DuckDB, and makes copies of it.

    Two SQLite libraries in one process break each other's locks on one file; so this process opens the live catalog
    with Python's `sqlite3` only, and DuckDB reads copies. One thread uses it.
    """

    def __init__(self, catalog_path: Path) -> None:
        self._path = catalog_path
        self._connection: sqlite3.Connection | None = None

    def version(self) -> int:
        """A number that differs from the last one when the catalog has changed. Raises LakeUnavailable."""
        with self._errors():
            return int(self._open().execute("PRAGMA data_version").fetchone()[0])

    def copy_to(self, target: Path) -> None:
        """Write a consistent copy of the catalog to `target`, replacing it. Raises LakeUnavailable."""
        target.unlink(missing_ok=True)
        with self._errors():
            copy = sqlite3.connect(target)
            try:
                self._open().backup(copy)
            finally:
                copy.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if not self._path.is_file():
                raise LakeUnavailable(f"There is no catalog at {self._path} yet: the ingest worker makes it.")
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=_BUSY_TIMEOUT_MS / 1000,
                check_same_thread=False,
            )
            self._connection.execute("PRAGMA query_only = true")
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self.close()
            raise LakeUnavailable(f"The catalog {self._path} cannot be read: {error}") from error


def attach_copy(connection: duckdb.DuckDBPyConnection, copy: Path, name: str = CATALOG) -> None:
    """Attach a private copy of a catalog, read-only, as `name`. `name` is one of our own identifiers."""
    connection.execute(f"ATTACH {quote(f'ducklake:sqlite:{copy}')} AS {name} (READ_ONLY)")
