"""DuckDB connections, and the one place that decides where an extension comes from."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

import duckdb

from runlake.errors import LakeError
from runlake.lake.place import LakePlace
from runlake.sqlfile import load_queries

CATALOG = "lake"
"""The name under which our own connections attach the lake."""
CATALOG_SECRET = "runlake_catalog"
STORAGE_SECRET = "runlake_storage"
_SQL = load_queries("runlake.lake", "attach.sql")
_PACKAGES_OF_CLUSTER = ("postgres_scanner", "httpfs")


def extensions_for(place: LakePlace | None) -> tuple[str, ...]:
    """The extensions that a lake needs; None: one on this machine."""
    clustered = place is not None and place.is_clustered
    remote = place is not None and place.storage_folder is None
    return ("ducklake", "postgres_scanner" if clustered else "sqlite_scanner", *(("httpfs",) if remote else ()))


def extension_path(name: str) -> Path:
    """The extension's binary inside its pinned PyPI package, so that nothing is downloaded at run time.

    Raises LakeError when the package is missing or was made for another DuckDB.
    """
    package = f"duckdb_extension_{name}"
    distribution = package.replace("_", "-")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        extra = "cluster" if name in _PACKAGES_OF_CLUSTER else "server"
        raise LakeError(f"The package {distribution} is missing. Install runlake[{extra}].")
    version = duckdb.__version__
    for location in spec.submodule_search_locations:
        path = Path(location) / "extensions" / f"v{version}" / f"{name}.duckdb_extension"
        if path.is_file():
            return path
    raise LakeError(f"{distribution} has no binary for DuckDB {version}. Install {distribution}=={version}.")


def connect(
    path: Path | None = None,
    *,
    place: LakePlace | None = None,
    threads: int | None = None,
    memory_limit: str | None = None,
) -> duckdb.DuckDBPyConnection:
    """A DuckDB of our own, in memory or in the file `path`: what `place` needs loaded, UTC, no download, no progress
    bar.

    Raises LakeError, duckdb.Error.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if threads is not None:
        config["threads"] = threads
    if memory_limit is not None:
        config["memory_limit"] = memory_limit
    connection = duckdb.connect(str(path) if path else ":memory:", config=config)
    try:
        load_for(connection, place)
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")
    except BaseException:
        connection.close()
        raise
    return connection


def load_for(
    connection: duckdb.DuckDBPyConnection, place: LakePlace | None, environ: Mapping[str, str] = os.environ
) -> None:
    """Load into a DuckDB what it needs for a lake: extensions, and the credentials, which it keeps in memory alone.

    Those of S3 come from `AWS_*` in `environ`, that of PostgreSQL from the catalog's address. Again is harmless. Raises
    LakeError, duckdb.Error.
    """
    for name in extensions_for(place):
        connection.load_extension(str(extension_path(name)))
    if place is None:
        return
    if place.is_clustered:
        need_psycopg()
        from runlake.lake.postgres import make_catalog_secret  # noqa: PLC0415 (an extra)

        make_catalog_secret(connection, place)
    if place.storage_folder is None:
        from runlake.lake.objectstore import prepare_storage  # noqa: PLC0415

        prepare_storage(connection, place.storage, environ)


def need_psycopg() -> None:
    """Return when a catalog in PostgreSQL can be used here. Raises LakeError, which says what to install."""
    if importlib.util.find_spec("psycopg") is None:
        raise LakeError("The package psycopg is missing. Install runlake[cluster].")


def quote(text: str) -> str:
    """A SQL string literal, for the few places where DuckDB takes no parameter."""
    return "'" + text.replace("'", "''") + "'"
