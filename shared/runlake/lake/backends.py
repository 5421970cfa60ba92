"""Ending connections of others to the catalog's PostgreSQL: the server's processes for them, its backends.

Needs psycopg, of the extra `cluster`.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg

from runlake.errors import LakeUnavailable
from runlake.lake.place import LakePlace
from runlake.lake.postgres import connect, unavailable
from runlake.sqlfile import load_queries

_SQL = load_queries("runlake.lake", "backends.sql")
_WITHIN_S = 8.0
_LOOK_EVERY_S = 0.02


def end_backends(place: LakePlace, names: str) -> int:
    """End the connections to the catalog whose application's name begins with `names`, and return how many there were
    when the server has none of them any more.

    What they had not committed by then is rolled back for good; what they had is there for who asks afterwards. Raises
    LakeUnavailable when the server cannot be reached, or one does not end within seconds.
    """
    try:
        with connect(place, "runlake cut off") as connection:
            return end_backends_by(connection, place, names)
    except psycopg.Error as error:
        raise unavailable(place, error) from None


def end_backends_by(connection: psycopg.Connection[Any], place: LakePlace, names: str) -> int:
    """The same, by a connection that is there, and each of whose statements is a transaction; but for that itself.
    Raises psycopg.Error too."""
    which = {"names": names}
    ended: set[int] = set()
    deadline = time.monotonic() + _WITHIN_S
    while found := {row[0] for row in connection.execute(_SQL["end"], which).fetchall()}:
        ended |= found
        if time.monotonic() >= deadline:
            raise LakeUnavailable(
                f"A connection of {names.strip()!r} to the catalog {place.told} does not end: {len(found)} are left."
            )
        time.sleep(_LOOK_EVERY_S)
    return len(ended)
