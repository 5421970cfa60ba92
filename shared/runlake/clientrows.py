"""Rows as a client gets them: dicts with values of Python's own types, and tables of them when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from runlake.errors import RunLakeError

_TIMES = ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")
Kinds = Mapping[str, Callable[[Any], Any]]


class TableLibraryMissing(RunLakeError):  # noqa: N818 (named by what to do)
    """A table was asked for, and the library that makes it is not installed: install it, or use the rows."""


class Rows(list[dict[str, Any]]):
    """Rows of an answer, a plain list of dicts; beside them what was said about all of them."""

    def __init__(
        self,
        rows: Iterable[dict[str, Any]],
        position: str = "",
        *,
        truncated: bool = False,
        totals: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(rows)
        self.position = position
        """The position in the log that the rows reflect."""
        self.truncated = truncated
        """Whether there are more that match."""
        self.totals = totals
        """Of a rollup: the measures of all groups together."""

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame. Raises TableLibraryMissing."""
        return _library("pandas").DataFrame.from_records(list(self))

    def to_arrow(self) -> Any:
        """The rows as a pyarrow Table; free-form maps as their JSON texts. Raises TableLibraryMissing."""
        return _library("pyarrow").Table.from_pylist([_flat(row) for row in self])


def column_kinds(types: Mapping[str, str]) -> dict[str, Callable[[Any], Any]]:
    """How the JSON values of columns become Python's, by their SQL types; only those that need it."""
    kinds: dict[str, Callable[[Any], Any]] = {}
    for name, sql_type in types.items():
        if sql_type in _TIMES:
            kinds[name] = datetime.fromisoformat
        elif sql_type.startswith("DECIMAL"):
            kinds[name] = _decimal
    return kinds


def typed(rows: Iterable[dict[str, Any]], kinds: Kinds) -> list[dict[str, Any]]:
    """Rows of JSON, whose fractions were read as Decimal, with values of the right types."""
    return [{name: _value(value, kinds.get(name)) for name, value in row.items()} for row in rows]


def _value(value: Any, kind: Callable[[Any], Any] | None) -> Any:
    if value is None:
        return None
    return kind(value) if kind is not None else _plain(value)


def _plain(value: Any) -> Any:
    """Fractions as floats, also inside of maps and lists."""
    match value:
        case Decimal():
            return float(value)
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case _:
            return value


def _decimal(value: Any) -> Decimal:
    return Decimal(value)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    json = importlib.import_module("json")
    return {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise TableLibraryMissing(
            f"This needs {name}, which is not installed: `pip install {name}`. The rows themselves need nothing."
        ) from None
