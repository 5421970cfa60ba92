"""Reading a catalog that is in PostgreSQL: through attachments of it that are pinned at a snapshot.

DuckDB's own connections to PostgreSQL have no deadline for an answer; so whether there is anything new is asked by a
connection of psycopg's, which has one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from runlake.errors import NoLakeYet
from runlake.lake.duck import CATALOG_SECRET, load_for, quote
from runlake.lake.place import LakePlace
from runlake.lake.postgres import connect, ducklake_address, unavailable
from runlake.sqlfile import load_queries

_ATTACH = load_queries("runlake.lake", "attach.sql")
_SQL = load_queries("runlake.lake", "postgres.sql")
_NOT_CONNECTED = re.compile(r'Unable to connect to Postgres at "[^"]*": (.*)', re.DOTALL)
"""How DuckDB says it, after the parameters of the connection."""


class PostgresWatch:
    """Watches the live catalog, and attaches it as it stands. One thread uses it. Needs the right to read only."""

    def __init__(self, place: LakePlace) -> None:
        self._place = place
        self._connection: psycopg.Connection[Any] | None = None
        self._loaded = False

    def version(self) -> object:
        """Differs from the last one when the catalog has changed. Raises LakeUnavailable; the next call connects
        again."""
        return self._newest()

    def attach(self, connection: duckdb.DuckDBPyConnection, name: str, file: Path) -> None:
        """Attach the catalog, pinned as it stands, as `name`; `file` is not needed. Raises LakeUnavailable, LakeError,
        duckdb.Error."""
        del file
        if not self._loaded:
            load_for(connection, self._place)
            self._loaded = True
        snapshot, _ = self._newest()
        catalog = quote(ducklake_address(self._place))
        attach = _ATTACH["postgres_snapshot"].format(
            catalog=catalog, name=name, snapshot=snapshot, secret=quote(CATALOG_SECRET)
        )
        try:
            connection.execute(attach)
        except duckdb.IOException as error:
            told = _NOT_CONNECTED.search(str(error))
            if told is None:
                raise
            raise unavailable(self._place, told[1]) from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _newest(self) -> tuple[int, str]:
        if self._connection is None:
            self._connection = connect(self._place, "runlake watch")
        try:
            row = self._connection.execute(_SQL["newest"]).fetchone()
        except psycopg.errors.UndefinedTable:
            row = None
        except psycopg.Error as error:
            self.close()
            raise unavailable(self._place, error) from None
        if row is None:
            raise NoLakeYet(f"There is no lake in {self._place.told} yet: the ingest worker makes it.")
        return int(row[0]), str(row[1])


def database_bytes(place: LakePlace) -> int:
    """How large the catalog's database is on disk. Raises LakeUnavailable."""
    with connect(place, "runlake maintenance") as connection:
        try:
            row = connection.execute(_SQL["size"]).fetchone()
        except psycopg.Error as error:
            raise unavailable(place, error) from None
    return int(row[0]) if row else 0
