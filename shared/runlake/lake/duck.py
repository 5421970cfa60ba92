"""DuckDB connections, and the one place that decides where an extension comes from."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import duckdb

from runlake.errors import LakeError

EXTENSIONS = ("ducklake", "sqlite_scanner")


def extension_path(name: str) -> Path:
    """The extension's binary inside its pinned PyPI package, so that nothing is downloaded at run time.

    Raises LakeError when the package is missing or was made for another DuckDB.
    """
    package = f"duckdb_extension_{name}"
    distribution = package.replace("_", "-")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LakeError(f"The package {distribution} is missing. Install runlake[server].")
    version = duckdb.__version__
    for location in spec.submodule_search_locations:
        path = Path(location) / "extensions" / f"v{version}" / f"{name}.duckdb_extension"
        if path.is_file():
            return path
    raise LakeError(f"{distribution} has no binary for DuckDB {version}. Install {distribution}=={version}.")


def connect(path: Path | None = None, *, threads: int | None = None, memory_limit: str | None = None) -> (
    duckdb.DuckDBPyConnection
):  # fmt: skip
    """A DuckDB of our own, in memory or in the file `path`: extensions loaded, UTC, no download, no progress bar."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    if threads is not None:
        config["threads"] = threads
    if memory_limit is not None:
        config["memory_limit"] = memory_limit
    connection = duckdb.connect(str(path) if path else ":memory:", config=config)
    for name in EXTENSIONS:
        connection.load_extension(str(extension_path(name)))
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    return connection


def quote(text: str) -> str:
    """A SQL string literal, for the few places where DuckDB takes no parameter."""
    return "'" + text.replace("'", "''") + "'"
