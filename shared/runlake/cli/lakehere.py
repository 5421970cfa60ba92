"""What commands need that work on the lake itself, on its machine."""

from __future__ import annotations

import importlib.util

from runlake.cli.failure import CommandFailed
from runlake.settings import Settings


def need_duckdb() -> None:
    """Return when lakes can be opened here. Raises CommandFailed, which says what to install."""
    if importlib.util.find_spec("duckdb") is None:
        raise CommandFailed("duckdb is not installed here; install the servers with `pip install 'runlake[server]'`.")


def need_lake(settings: Settings) -> None:
    """Return when the lake of these settings can be opened here. Raises CommandFailed, which says what is missing."""
    need_duckdb()
    place = settings.lake
    if not place.is_clustered and not place.catalog_file.is_file():
        raise CommandFailed(f"there is no lake at {place.told} yet: the ingest worker makes it.")
