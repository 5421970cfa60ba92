"""The statements that fold the feed's changes into their runs: one for each set of fields that changes set.

To fold all fields of a run takes twice as long as to fold the few that agents do set. So a statement is made for those,
until there are `MAX_KEPT`; what fits none of them is folded by the narrowest that has more, the last of which has all.
"""

from __future__ import annotations

from uuid import UUID

import duckdb

from runlake_query.applystatements import ALL_FIELDS, merge

MAX_KEPT = 32
_WORTH_IT = 0.7
"""A statement of its own is made for fewer fields than this share of those that another one has."""


class Merges:
    """The prepared statements of one cursor."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor
        self._names: dict[tuple[UUID, bool], dict[frozenset[str], str]] = {}
        self._made = 0

    def name(self, worker: UUID, fields: frozenset[str], *, stored: bool) -> str:
        """The statement for changes of a worker that set no other `fields` than these; `stored`: of runs that are
        there already, too. Raises duckdb.Error."""
        known = self._names.setdefault((worker, stored), {})
        if not known:
            self._make(known, worker, ALL_FIELDS, stored=stored)
        narrowest = min((kept for kept in known if fields <= kept), key=len)
        if len(fields) < _WORTH_IT * len(narrowest) and len(known) < MAX_KEPT:
            self._make(known, worker, fields, stored=stored)
            narrowest = fields
        return known[narrowest]

    def _make(self, known: dict[frozenset[str], str], worker: UUID, fields: frozenset[str], *, stored: bool) -> None:
        self._made += 1
        name = f"merge_{self._made}"
        self._cursor.execute(f"PREPARE {name} AS {merge(worker, fields, stored=stored)}")
        known[fields] = name
