"""A short write to the lake from a command, beside a worker that writes it too."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from runlake.cli.failure import CommandFailed
from runlake.cli.lakehere import need_lake
from runlake.errors import LakeError
from runlake.settings import Settings

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")
_LOCKED_S = 60.0
"""For how long writing is tried again while the worker is writing."""
_PAUSE_S = 0.1
_PASSING = ("database is locked", "database is busy", "transaction conflict", "exceeded the maximum retry count")


def write_lake(settings: Settings, write: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
    """Run `write` in a transaction on the lake, attached as `lake`; again while the worker is in the way.

    What it writes is on disk when this returns. Raises CommandFailed, LakeError.
    """
    need_lake(settings)
    import duckdb  # noqa: PLC0415 (an extra)

    deadline = time.monotonic() + _LOCKED_S
    while True:
        try:
            return _write_once(settings, write)
        except duckdb.Error as error:
            if not _will_pass(error) or time.monotonic() >= deadline:
                raise CommandFailed(f"the lake at {settings.lake.told} cannot be written: {error}") from None
        time.sleep(_PAUSE_S)


def _write_once(settings: Settings, write: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
    from runlake.lake.attach import CATALOG, write_through_door  # noqa: PLC0415
    from runlake.lake.duck import connect  # noqa: PLC0415
    from runlake.lake.durability import file_sync  # noqa: PLC0415
    from runlake.lake.schema import check_version, latest_version  # noqa: PLC0415

    place = settings.lake
    connection = connect(place=place)
    with write_through_door(connection, place) as door, closing(file_sync(place)) as sync:
        version = check_version(connection, CATALOG)
        if version != latest_version():
            raise LakeError(
                f"The lake has schema version {version}; start the ingest worker once: it brings the lake to version"
                f" {latest_version()}."
            )
        connection.execute("BEGIN")
        done = write(connection)
        sync()
        door.commit(connection)
        return done


def _will_pass(error: Exception) -> bool:
    """Whether others were writing the catalog at the same moment, or for so long that DuckLake gave up."""
    text = str(error).lower()
    return any(sign in text for sign in _PASSING)
