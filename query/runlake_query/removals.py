"""Takes out of the read model the runs that retention has removed from the lake."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import duckdb

from runlake.lake.duck import quote
from runlake.sqlfile import load_queries
from runlake_query.apply import Applier
from runlake_query.applystatements import RECOUNT_UNSTARTED

_SQL = load_queries("runlake_query", "removals.sql")


class Extent(NamedTuple):
    """How many removals a lake has, and when the last one was."""

    removals: int = 0
    last: str | None = None


def removals_in_lake(cursor: duckdb.DuckDBPyConnection, lake: str) -> Extent:
    """Those of a copy of the lake; none in a lake of a schema without them. Raises duckdb.Error."""
    ((there,),) = cursor.execute(_SQL["has_removals"].format(lake=quote(lake))).fetchall()
    if not there:
        return Extent()
    ((count, last),) = cursor.execute(_SQL["extent"].format(lake=lake)).fetchall()
    return Extent(count, last)


class Removals:
    """The follower's. `changed` is told of what was committed."""

    def __init__(self, applier: Applier, changed: Callable[[], None] = lambda: None) -> None:
        self._applier = applier
        self._changed = changed
        self.forget()

    def forget(self) -> None:
        """The read model was emptied."""
        self._seen = Extent()
        self._settled: set[str] = set()
        self._waiting = False

    def apply(self, found: Extent, lake: str) -> int:
        """Take out what was removed; returns how many runs that changed. Raises duckdb.Error.

        All removals are taken again when there is a new one, for clocks may step back. A run of which more has come
        since is folded anew from the lake, as soon as that has all of it.
        """
        if found == self._seen and not self._waiting:
            return 0
        with self._applier.transaction() as cursor:
            cursor.execute(_SQL["take"].format(lake=lake))
            cursor.execute(_SQL["outlived"], {"settled": sorted(self._settled)})
            ((outlived, waiting),) = cursor.execute(_SQL["count_outlived"]).fetchall()
            settled = {name for (name,) in cursor.execute(_SQL["settled"]).fetchall()}
            cursor.execute(_SQL["gone"])
            runs = self._applier.drop("SELECT event_id FROM gone")
            if outlived > waiting:
                runs += self._applier.refold(lake, "SELECT event_id FROM outlived WHERE flushed")
            for name in ("events", "associations"):
                cursor.execute(_SQL[name])
            for statement in (*RECOUNT_UNSTARTED, "DROP TABLE removed", "DROP TABLE outlived", "DROP TABLE gone"):
                cursor.execute(statement)
        if runs or found != self._seen:
            self._changed()
        self._settled |= settled
        self._seen, self._waiting = found, bool(waiting)
        return runs
