"""A lake that cannot be written for a while."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from support.processes import Site


@contextmanager
def lake_away(site: Site) -> Iterator[None]:
    """Hold the catalog's write lock, as a backup that hangs would."""
    with closing(sqlite3.connect(site.catalog, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
