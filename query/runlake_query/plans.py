"""The plans of one cursor: what is asked again in the same words is not planned again.

To plan a query costs more than to run it while tables are small or well bounded (measured for a run as JSON: 2.7 ms to
plan, 0.3 ms to run). DuckDB keeps the plan of a prepared statement, but plans it anew at every EXECUTE when a parameter
stands in a filter or a projection, typed or not. So values are written into the text as literals, and the text is what
is known by. Plans stay right while rows come and go: they depend on the catalog, whose changes DuckDB notices, and not
on statistics (see `model.py`). A list goes as the argument of a source of rows (`unnest($1::VARCHAR[])`), where a
parameter does no harm: `call`.

A prepared statement keeps what its operators held when it was last run: hash tables, the values of percentiles. That is
not counted against DuckDB's memory limit, and goes only with the plan (measured with DuckDB 1.5.5: 50 MB for 3 million
rows in 20 groups with two percentiles; 10 MB for a rollup with all measures of a few hundred). So a plan goes at once
when to run it costs much more than to plan it: what is kept is of queries that go through little. And nothing is kept
before it is asked for the second time: most rollups have the moment in their text, and most pages of a list that moves
where they end, so that each of them is asked once, and its plan would only hold memory and drive out another.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import duckdb

from runlake.lake.duck import quote

_MAX_KEPT = 16
_MAX_REMEMBERED = 512
_PAYS_BELOW_S = 0.01
"""Processor time of this thread."""
_MAX_CHARACTERS = 20_000
_PARAMETER = re.compile(r"\$([a-zA-Z_][a-zA-Z0-9_]*)")
_READS = re.compile(r"\s*(--[^\n]*\n\s*)*(SELECT|WITH|FROM)\b", re.IGNORECASE)


class Found(NamedTuple):
    """What a query found."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


class Plans:
    """The least recently used plan goes. Of the thread that has the cursor. Every query may raise duckdb.Error.

    `max_kept`: plans; `pays_below_s`: processor seconds that a run takes at most for its plan to be kept;
    `max_remembered`: texts of which it is known that they were asked, so that their plans are worth keeping.
    """

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        max_kept: int = _MAX_KEPT,
        pays_below_s: float = _PAYS_BELOW_S,
        max_remembered: int = _MAX_REMEMBERED,
    ) -> None:
        self._cursor = cursor
        self._max_kept = max_kept
        self._pays_below_s = pays_below_s
        self._max_remembered = max_remembered
        self._asked: OrderedDict[int, bool] = OrderedDict()
        self._names: OrderedDict[str, str] = OrderedDict()
        self._made = 0

    def __len__(self) -> int:
        return len(self._names)

    @property
    def made(self) -> int:
        """How many plans were made so far."""
        return self._made

    def find(self, query: str, values: Mapping[str, Any] | None = None) -> Found:
        """Run one query, with `values` for its `$names`."""
        text = _with_literals(query, values or {})
        if text is None or len(text) > _MAX_CHARACTERS or not _READS.match(text):
            return self._fetched(self._cursor.execute(query, dict(values or {}) or None))
        if text not in self._names and self._is_new(text):
            return self._fetched(self._cursor.execute(text))
        return self._run(text)

    def rows(self, query: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.find(query, values).rows

    def call(self, query: str, *lists: Iterable[str] | Iterable[int]) -> list[tuple[Any, ...]]:
        """All rows of a query that takes lists of texts or numbers as `$1::VARCHAR[]`, `$2::BIGINT[]` …

        Its text has none of the values, so that its plan is kept from the first time on.
        """
        return self._run(query, f"({', '.join(map(_list, lists))})").rows

    def _is_new(self, text: str) -> bool:
        """Whether this is not known to have been asked; it is from now on."""
        key = hash(text)
        known = self._asked.pop(key, False)
        while len(self._asked) >= self._max_remembered:
            self._asked.popitem(last=False)
        self._asked[key] = True
        return not known

    def _run(self, text: str, arguments: str = "") -> Found:
        name = self._name(text)
        began = time.thread_time()
        found = self._fetched(self._cursor.execute(f"EXECUTE {name}{arguments}"))
        if time.thread_time() - began > self._pays_below_s:
            self._forget(text)
        return found

    @staticmethod
    def _fetched(cursor: duckdb.DuckDBPyConnection) -> Found:
        return Found([column[0] for column in cursor.description or []], cursor.fetchall())

    def _name(self, text: str) -> str:
        name = self._names.get(text)
        if name is not None:
            self._names.move_to_end(text)
            return name
        while len(self._names) >= self._max_kept:
            self._forget(next(iter(self._names)))
        self._made += 1
        name = f"plan_{self._made}"
        self._cursor.execute(f"PREPARE {name} AS {text}")
        self._names[text] = name
        return name

    def _forget(self, text: str) -> None:
        self._cursor.execute(f"DEALLOCATE {self._names.pop(text)}")


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
