"""Attaching the lake: by those who write it, and by readers, who see it as it stood at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import duckdb

from runlake.lake import duck
from runlake.lake.duck import CATALOG_SECRET, connect, need_psycopg, quote
from runlake.lake.durability import make_folder, sync_folder
from runlake.lake.filedoor import FileDoor, file_door
from runlake.lake.place import LakePlace
from runlake.lake.sqlitecatalog import BUSY_TIMEOUT_MS, SqliteWatch
from runlake.sqlfile import load_queries

_SQL = load_queries("runlake.lake", "attach.sql")
CATALOG = duck.CATALOG
"""The name under which our own connections attach the lake."""


class Watch(Protocol):
    """Says whether the live catalog has changed, and attaches it as it stands now. One thread uses it."""

    def version(self) -> object:
        """Differs from the last one when the catalog has changed. Raises LakeUnavailable."""

    def attach(self, connection: duckdb.DuckDBPyConnection, name: str, file: Path) -> None:
        """Attach the catalog, read-only and as it stands now, as `name`, which is one of our own identifiers.

        `file`: where a copy of it may go; whoever detaches it removes the file, if it is there. Raises LakeError,
        LakeUnavailable, duckdb.Error.
        """

    def close(self) -> None:
        """Let go of the catalog. The next use opens it again."""


def open_watch(place: LakePlace) -> Watch:
    """A watch over the catalog of a lake, which need not be there yet. Raises LakeError."""
    if not place.is_clustered:
        return SqliteWatch(place.catalog_file, place if place.is_remote else None)
    need_psycopg()
    from runlake.lake.postgrescatalog import PostgresWatch  # noqa: PLC0415 (an extra)

    return PostgresWatch(place)


@contextmanager
def read_lake(place: LakePlace) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own with the lake attached as `lake`, as it stands now; no writer notices. Raises LakeError,
    duckdb.Error, OSError."""
    watch = open_watch(place)
    try:
        with TemporaryDirectory(prefix="runlake-") as folder, connect(place=place) as connection:
            watch.attach(connection, CATALOG, Path(folder) / "catalog.sqlite")
            yield connection
    finally:
        watch.close()


def attach_for_writing(connection: duckdb.DuckDBPyConnection, place: LakePlace, door: FileDoor | None = None) -> None:
    """Attach the live catalog as `lake`, making it when it is missing. `connection`: of `duck.connect(place=place)`.

    Rows go to Parquet, not into the catalog (but for `flushes`, see `inline_flushes`). Folders that are made are made
    durably. With a `door` the files are reached through it. Raises LakeError, duckdb.Error, OSError.
    """
    folder = place.storage_folder
    if folder is not None:
        make_folder(folder)
    if place.is_clustered:
        from runlake.lake.postgres import ducklake_address  # noqa: PLC0415 (an extra)

        query = _SQL["postgres_for_writing"]
        names = {"catalog": quote(ducklake_address(place)), "secret": quote(CATALOG_SECRET)}
    else:
        make_folder(place.catalog_file.parent)
        query = _SQL["sqlite_for_writing"]
        names = {"catalog": quote(f"ducklake:sqlite:{place.catalog_file}"), "busy_timeout_ms": str(BUSY_TIMEOUT_MS)}
    connection.execute(query.format(name=CATALOG, storage=quote(place.storage), override=False, **names))
    if not place.is_clustered:
        sync_folder(place.catalog_file.parent)
    if folder is not None:
        sync_folder(folder.parent)
    if door is not None and door.data_path:
        connection.execute(_SQL["detach"].format(name=CATALOG))
        connection.execute(query.format(name=CATALOG, storage=quote(door.data_path), override=True, **names))


@contextmanager
def write_through_door(connection: duckdb.DuckDBPyConnection, place: LakePlace) -> Iterator[FileDoor]:
    """The lake attached as by `attach_for_writing`, through a door by which to COMMIT. The connection is closed in the
    end. Raises LakeError, duckdb.Error, OSError."""
    folder = place.storage_folder
    if folder is not None:
        make_folder(folder)
    with closing(file_door(connection, place)) as door, closing(connection):
        attach_for_writing(connection, place, door)
        yield door


def alone_in_catalog(place: LakePlace) -> AbstractContextManager[None]:
    """For as long as the block runs nobody else makes or migrates the lake. Raises LakeError, LakeUnavailable."""
    if not place.is_clustered:  # one worker at a time, by the lock of its data folder
        return nullcontext()
    need_psycopg()
    from runlake.lake.postgres import alone  # noqa: PLC0415 (an extra)

    return alone(place)


def catalog_bytes(place: LakePlace) -> int:
    """How large the catalog is on disk. Raises LakeUnavailable."""
    if place.is_clustered:
        from runlake.lake.postgrescatalog import database_bytes  # noqa: PLC0415 (an extra)

        return database_bytes(place)
    file = place.catalog_file
    return sum(path.stat().st_size for path in file.parent.glob(f"{file.name}*"))


def inline_flushes(connection: duckdb.DuckDBPyConnection) -> None:
    """Keep the small rows of `flushes` in the catalog itself: a Parquet file for each would be a waste. Raises
    duckdb.Error."""
    if ("flushes",) not in connection.execute(_SQL["inlined_tables"].format(name=CATALOG)).fetchall():
        connection.execute(_SQL["inline"].format(name=CATALOG, table=quote("flushes")))


def write_nothing(connection: duckdb.DuckDBPyConnection) -> None:
    """Commit something to the catalog that changes nothing and writes no file. Raises duckdb.Error.

    After a COMMIT that failed: while this fails nothing more is written, so that what failed leaves no files behind
    with each time that it is tried again; and SQLite's log is written over what the failed one had in it, so that
    nothing brings that back after a crash.
    """
    connection.execute(_SQL["inline"].format(name=CATALOG, table=quote("flushes")))
