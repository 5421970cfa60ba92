"""Which fields some run may have, as the read model keeps it: the others are not read when whole runs are.

A column without any value still costs as much to read as another one, and agents set few of all the fields (10 million
runs of which 26 fields are never set, 100 of them far apart: 44 ms of processor time for all, 28 without these).
"""

from __future__ import annotations

import duckdb

from runlake.sqlfile import load_queries
from runlake_query.applystatements import ALL_FIELDS, SQL

_USED = load_queries("runlake_query", "model.sql")["used_fields"]


class FieldsUsed:
    """Notes the fields that are set, in the transaction of whoever sets them. Of the cursor that writes."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._known: set[str] | None = None

    def add(self, fields: frozenset[str]) -> None:
        """Runs may have these from now on. Raises duckdb.Error."""
        known = self._read()
        for name in sorted(fields - known):
            self._cursor.execute(SQL["use_field"], {"name": name})
            known.add(name)

    def add_staged(self) -> None:
        """The same of those that the staged changes set. Raises duckdb.Error."""
        unused = sorted(ALL_FIELDS - self._read())
        if not unused:
            return
        query = SQL["count_fields"].format(counts=", ".join(f"count({name})" for name in unused))
        (counts,) = self._cursor.execute(query).fetchall()
        self.add(frozenset(name for name, count in zip(unused, counts, strict=True) if count))

    def forget(self) -> None:
        """What was noted may not have been committed, or the read model was emptied."""
        self._known = None

    def _read(self) -> set[str]:
        if self._known is None:
            self._known = {name for (name,) in self._cursor.execute(_USED).fetchall()}
        return self._known
