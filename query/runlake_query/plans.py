"""The plans of one cursor: what is asked again in the same words is not planned again.

To plan a query costs more than to run it while tables are small or well bounded (measured for a run as JSON: 2.7 ms to
plan, 0.3 ms to run). DuckDB keeps the plan of a prepared statement, but plans it anew at every EXECUTE when a parameter
stands in a filter or a projection, typed or not. So values are written into the text as literals, and the text is what
is known by. Plans stay right while rows come and go: they depend on the catalog, whose changes DuckDB notices, and not
on statistics (see `model.py`). A list goes as the argument of a source of rows (`unnest($1::VARCHAR[])`), where a
parameter does no harm: `call`.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import duckdb

from runlake.lake.duck import quote

_MAX_KEPT = 64
_MAX_CHARACTERS = 20_000
_PARAMETER = re.compile(r"\$([a-zA-Z_][a-zA-Z0-9_]*)")
_READS = re.compile(r"\s*(--[^\n]*\n\s*)*(SELECT|WITH|FROM)\b", re.IGNORECASE)


class Plans:
    """The least recently used plan goes. Of the thread that has the cursor. Every query may raise duckdb.Error."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, max_kept: int = _MAX_KEPT) -> None:
        self._cursor = cursor
        self._max_kept = max_kept
        self._names: OrderedDict[str, str] = OrderedDict()
        self._made = 0

    def __len__(self) -> int:
        return len(self._names)

    @property
    def made(self) -> int:
        """How many plans were made so far."""
        return self._made

    def execute(self, query: str, values: Mapping[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
        """Run one statement, with `values` for its `$names`."""
        text = _with_literals(query, values or {})
        if text is None or len(text) > _MAX_CHARACTERS or not _READS.match(text):
            return self._cursor.execute(query, dict(values or {}) or None)
        return self._cursor.execute(f"EXECUTE {self._name(text)}")

    def rows(self, query: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.execute(query, values).fetchall()

    def call(self, query: str, *lists: Iterable[str] | Iterable[int]) -> list[tuple[Any, ...]]:
        """All rows of a query that takes lists of texts or numbers as `$1::VARCHAR[]`, `$2::BIGINT[]` …"""
        arguments = ", ".join(map(_list, lists))
        return self._cursor.execute(f"EXECUTE {self._name(query)}({arguments})").fetchall()

    def _name(self, text: str) -> str:
        name = self._names.get(text)
        if name is not None:
            self._names.move_to_end(text)
            return name
        while len(self._names) >= self._max_kept:
            _, eldest = self._names.popitem(last=False)
            self._cursor.execute(f"DEALLOCATE {eldest}")
        self._made += 1
        name = f"plan_{self._made}"
        self._cursor.execute(f"PREPARE {name} AS {text}")
        self._names[text] = name
        return name


def _with_literals(query: str, values: Mapping[str, Any]) -> str | None:
    """The query with its values written into it; None when one of them has to be bound."""
    literals = {name: _literal(value) for name, value in values.items()}
    if None in literals.values():
        return None
    return _PARAMETER.sub(lambda found: str(literals.get(found[1], found[0])), query)


def _literal(value: Any) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"({value})" if value < 0 else str(value)
        case str() if "\0" not in value:
            return f"{quote(value)}::VARCHAR"
        case _:
            return None


def _list(items: Iterable[str] | Iterable[int]) -> str:
    found: list[str | int] = list(items)
    kind = "BIGINT" if found and isinstance(found[0], int) else "VARCHAR"
    return f"[{', '.join(str(item) if isinstance(item, int) else quote(item) for item in found)}]::{kind}[]"
