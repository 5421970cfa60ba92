"""Connections to the PostgreSQL that holds a catalog. Needs psycopg, of the extra `cluster`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
import psycopg
from psycopg import conninfo

from runlake.errors import LakeError, LakeUnavailable
from runlake.lake.duck import CATALOG_SECRET, quote
from runlake.lake.place import LakePlace
from runlake.sqlfile import load_queries

_ATTACH = load_queries("runlake.lake", "attach.sql")
_SQL = load_queries("runlake.lake", "postgres.sql")
_DEFAULTS = {
    "application_name": "runlake",
    "client_encoding": "UTF8",
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
"""A server that is gone is noticed within seconds; what the address or libpq's own means say comes first. The
encoding is said, for in a database that has none texts would come as bytes."""
_ANSWER_MS = 10_000
_LOCK_MS = 60_000


def connect(place: LakePlace, application: str, *, answer_ms: int = _ANSWER_MS) -> psycopg.Connection[Any]:
    """A connection of its own to the catalog's database, each statement a transaction; statements that take longer than
    `answer_ms` fail. Raises LakeUnavailable, LakeError for an address that is none."""
    options = {**_options(place), "application_name": application}
    try:
        connection = psycopg.connect("", autocommit=True, **options)  # type: ignore[arg-type]
    except psycopg.Error as error:
        raise unavailable(place, error) from None
    try:
        connection.execute(_SQL["deadline"], (str(answer_ms),))
    except psycopg.Error as error:
        connection.close()
        raise unavailable(place, error) from None
    return connection


def ducklake_address(place: LakePlace) -> str:
    """The catalog as DuckLake takes it, without the password: errors repeat it. Raises LakeError."""
    options = _options(place)
    options.pop("password", None)
    return f"ducklake:postgres:{conninfo.make_conninfo(**options)}"


def make_catalog_secret(connection: duckdb.DuckDBPyConnection, place: LakePlace) -> None:
    """Give DuckDB the password of the address; without one libpq looks for it. Raises LakeError, duckdb.Error."""
    password = _options(place).get("password")
    query = _ATTACH["no_catalog_secret" if password is None else "catalog_secret"]
    connection.execute(query.format(secret=CATALOG_SECRET, password=quote(password or "")))


@contextmanager
def alone(place: LakePlace) -> Iterator[None]:
    """For as long as the block runs nobody else makes or changes the lake's tables. Waits for its turn. Raises
    LakeUnavailable."""
    connection = connect(place, "runlake migration", answer_ms=_LOCK_MS)
    try:
        try:
            connection.execute(_SQL["alone"])
        except psycopg.Error as error:
            raise unavailable(place, error) from None
        yield
    finally:
        connection.close()


def unavailable(place: LakePlace, error: object) -> LakeUnavailable:
    """What to tell of an error of psycopg's, or of libpq's as DuckDB repeats it."""
    return LakeUnavailable(f"The catalog {place.told} cannot be reached: {str(error).strip()}")


def _options(place: LakePlace) -> dict[str, str]:
    try:
        given = conninfo.conninfo_to_dict(place.catalog)
    except psycopg.ProgrammingError:  # it repeats what is wrong, which may be the password
        raise LakeError(f"The catalog {place.told} is no address that PostgreSQL knows.") from None
    return {**_DEFAULTS, **{name: str(value) for name, value in given.items()}}
