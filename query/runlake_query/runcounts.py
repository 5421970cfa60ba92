"""How many runs are shown, by what lists are filtered by most often: kept by whoever changes runs, in the same
transaction, so that nobody goes through a long history to say how long a list is.

What a change adds and takes away is appended; whoever asks sums up. When much was appended it is summed up here.
"""

from __future__ import annotations

import duckdb

from runlake.sqlfile import load_queries

COUNTED = frozenset(("agent_name", "job_type", "status"))
"""The fields by which runs are counted."""
_SQL = load_queries("runlake_query", "runcounts.sql")
_SUM_UP = tuple(_SQL["sum_up"].split(";\n"))
_MOST_APPENDED = 10_000
"""Rows, beside as many as there are groups."""

PREPARED = {"count_merged": _SQL["count"].format(runs="merged"), "recount_merged": _SQL["recount_merged"]}


class RunCounts:
    """Adds to the counts. Of the cursor that writes; every method may raise duckdb.Error."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, most_appended: int = _MOST_APPENDED) -> None:
        self._cursor = cursor
        self._most_appended = most_appended
        self._groups = 0
        self._rows: int | None = None

    def replace(self, *, stored: bool) -> None:
        """The `merged` runs are about to take the place of those of them that are `stored`."""
        self._append(f"EXECUTE {'recount_merged' if stored else 'count_merged'}")

    def add(self, runs: str) -> None:
        """Runs were inserted: those of a table, or of a query in parentheses."""
        self._append(_SQL["count"].format(runs=runs))

    def take_away(self, runs: str) -> None:
        """Runs are about to be deleted: those whose ids a query has."""
        self._append(_SQL["uncount"].format(runs=runs))

    def forget(self) -> None:
        """What was added may not have been committed, or the read model was emptied."""
        self._rows = None

    def _append(self, statement: str) -> None:
        ((appended,),) = self._cursor.execute(statement).fetchall()
        if self._rows is None:
            ((self._rows, self._groups),) = self._cursor.execute(_SQL["rows"]).fetchall()
        else:
            self._rows += appended
        if self._rows > 2 * self._groups + self._most_appended:
            for step in _SUM_UP:
                self._cursor.execute(step)
            ((self._rows, self._groups),) = self._cursor.execute(_SQL["rows"]).fetchall()
