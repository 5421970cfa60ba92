"""A small DuckDB beside the read model's own, in which the follower asks each new version of the lake's catalog.

The first query of a DuckLake table leaves that version's table statistics in DuckDB's object cache. Neither DETACH nor,
in DuckDB 1.5, anything else short of the memory limit frees them, but for the end of the DuckDB. A version comes with
every flush, every two seconds; in the read model's DuckDB that was 7 GB of memory a day. This one is thrown away before
it matters. To attach a version, as the read model does for its readers, leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from runlake.lake.attach import Watch
from runlake.lake.duck import connect
from runlake.lake.place import LakePlace

_LOOKS = 64
"""How many versions one DuckDB looks at: some 10 MB, and a new one costs a few times what a look does."""


class Lookout:
    """One thread uses it."""

    def __init__(self, place: LakePlace) -> None:
        self.place = place
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._looks = 0

    @contextmanager
    def attached(self, watch: Watch, name: str, file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        """The catalog as it stands, attached as `name`, for as long as the block runs.

        `file`: where a copy of it may go, which the caller removes. Raises LakeError, LakeUnavailable, duckdb.Error.
        """
        if self._looks >= _LOOKS:
            self.close()
        if self._connection is None:
            self._connection = connect(place=self.place, threads=1)
        self._looks += 1
        try:
            watch.attach(self._connection, name, file)
            yield self._connection
            self._connection.execute(f"DETACH {name}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free what it holds. The next use opens it again."""
        connection, self._connection, self._looks = self._connection, None, 0
        if connection is not None:
            connection.close()
