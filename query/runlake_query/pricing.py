"""Costs in the read model: computed as runs are applied, and anew when the lake has another price list.

A new list is in force for what is applied from then on. The runs before it are repriced in bounded steps, between which
the follower goes on. Each run says by which list it was priced, so that what is still to do is a count over the runs:
it needs no note of its own, and survives being killed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb

from runlake.lake.duck import quote
from runlake.lake.prices import NEEDED, in_force_query, priced_query
from runlake.logs import Log
from runlake.sqlfile import load_queries

STEP_RUNS = 25_000
"""How many runs one step prices."""
_SQL = load_queries("runlake_query", "pricing.sql")

LOOK_AT_MERGED = _SQL["look_at_merged"].format(needed=NEEDED)
"""Of the runs that are being applied, how many have a cost to be computed; and 0 when no run at all lacks its start."""
PRICE_MERGED = _SQL["price_merged"].format(
    priced=priced_query(_SQL["unpriced_rows"].format(needed=NEEDED), "prices"),
)


def list_in_lake(cursor: duckdb.DuckDBPyConnection, lake: str) -> str | None:
    """The id of the price list in force in a copy of the lake; None for a lake of a schema that has none."""
    if _row(cursor, _SQL["has_prices"].format(lake=quote(lake))) == (0,):
        return None
    found: str | None = _row(cursor, _SQL["list_in_lake"].format(lake=lake))[0]
    return found


class Pricing:
    """The follower's: keeps the price list, and brings the runs to it. Its cursor is the one that writes."""

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        log: Log,
        step_runs: int = STEP_RUNS,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._cursor = cursor
        self._changed = changed
        self._log = log
        rows = _SQL["rows_to_reprice"].format(step=step_runs)
        self._reprice = _SQL["reprice"].format(priced=priced_query(rows, "prices"))
        self._done = 0
        self.pending = True
        """Whether there may be runs that were priced by another list."""

    def take(self, list_id: str | None, lake: str) -> None:
        """Have the list in force in a copy of the lake, `list_id`, from now on. Raises duckdb.Error."""
        if list_id is None or _row(self._cursor, _SQL["list"])[0] == list_id:
            return
        self._cursor.execute("BEGIN")
        try:
            self._cursor.execute(_SQL["forget"])
            self._cursor.execute(_SQL["take"].format(in_force=in_force_query(f"{lake}.prices")))
            self._cursor.execute("COMMIT")
        except BaseException:
            self._cursor.execute("ROLLBACK")
            raise
        version, source, _ = _row(self._cursor, _SQL["about"])
        self._log.info("price_list_taken", version=version, source=source)
        self.pending, self._done = True, 0

    def step(self, before_commit: Callable[[], None]) -> int:
        """Reprice some runs; returns how many. At 0 none are left, and `pending` is False. Raises duckdb.Error."""
        self._cursor.execute("BEGIN")
        try:
            (changed,) = _row(self._cursor, self._reprice)
            if changed:
                before_commit()
            self._cursor.execute("COMMIT")
        except BaseException:
            self._cursor.execute("ROLLBACK")
            raise
        self._done += changed
        if changed:
            self._changed()
            self._log.info("repricing", runs=self._done)
            return int(changed)
        if self._done:
            self._log.info("repriced", runs=self._done)
        self.pending, self._done = False, 0
        return 0


def _row(cursor: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The one row of a query, which is read to its end: else it stays a transaction, and no checkpoint is made."""
    ((*row,),) = cursor.execute(query).fetchall()
    return tuple(row)
