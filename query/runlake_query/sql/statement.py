"""Which statements may run: exactly one SELECT, over the two views, with functions that compute and look at nothing.

The first of several fences: what gets past it finds a database whose configuration is locked and that can open no other
file, in a process that the kernel gives no other file and no network.
"""

from __future__ import annotations

import re
from typing import Any

import duckdb
import msgspec

from runlake.sqlfile import load_queries

VIEWS = frozenset(("runs", "events"))
TABLE_FUNCTIONS = frozenset(("unnest", "range", "generate_series", "json_each", "json_tree"))
_REFUSED_FUNCTIONS = frozenset(
    (
        *("current_setting", "getvariable", "getenv", "nextval", "currval", "write_log", "sleep_ms"),
        *("json_serialize_sql", "json_deserialize_sql", "json_serialize_plan"),
    )
)
_REFERENCES = frozenset(
    ("BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "EMPTY_FROM", "PIVOT", "CTE")
)
_CTE_NAME = re.compile(r"\w{1,100}")
_SYSTEM_NAMES = ("duckdb_", "pragma_", "pg_", "sqlite_", "information_schema")
_ONE_SELECT = "must be exactly one SELECT statement"

_SQL = load_queries("runlake_query.sql", "sandbox.sql")


class Refused(Exception):  # noqa: N818 (named by what it says)
    """The statement may not run; the message says what is wrong with it."""


def limited(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The statement in parentheses, without a semicolon at its end, once it may run. Raises Refused."""
    if "\0" in sql:
        raise Refused(_ONE_SELECT)
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise Refused(str(error)) from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise Refused(_ONE_SELECT)
    wrapped = f"(\n{_without_semicolon(sql)}\n)"
    _check(connection, wrapped)
    return wrapped


def _without_semicolon(sql: str) -> str:
    text = sql.encode()
    end = len(text)
    for at, _ in reversed(duckdb.tokenize(sql)):
        if text[at : at + 1] != b";":
            break
        end = at
    return text[:end].decode()


def _check(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Look through the syntax tree of what will run."""
    (text,) = connection.execute(_SQL["syntax_tree"], {"sql": sql}).fetchone() or ("",)
    tree = msgspec.json.decode(text)
    if tree.get("error"):
        raise Refused(str(tree.get("error_message") or _ONE_SELECT))
    if len(tree["statements"]) != 1:
        raise Refused(_ONE_SELECT)
    internal = {row[0].lower() for row in connection.execute(_SQL["internal_views"]).fetchall()}
    _Walk(internal).node(tree["statements"][0])


class _Walk:
    """A walk over a syntax tree. First all names that WITH gives are collected, then every table is looked at."""

    def __init__(self, internal: set[str]) -> None:
        self._internal = internal

    def node(self, root: Any) -> None:
        known = VIEWS | {self._cte(name) for name in _cte_names(root)}
        for found in _dicts(root):
            kind, name = found.get("type"), str(found.get("function_name", "")).lower()
            if "table_name" in found and "catalog_name" in found:
                self._table(found, known)
            elif "sample" in found and "alias" in found and kind not in _REFERENCES:
                raise Refused(f"{str(kind).lower()} is not available here")
            if kind == "TABLE_FUNCTION":
                called = str(found["function"].get("function_name", "")).lower()
                if called not in TABLE_FUNCTIONS:
                    raise Refused(f"the table function {called!r} is not available here")
            elif name in _REFUSED_FUNCTIONS:
                raise Refused(f"the function {name!r} is not available here")

    def _cte(self, name: str) -> str:
        if not _CTE_NAME.fullmatch(name) or name.lower() in self._internal or name.lower().startswith(_SYSTEM_NAMES):
            raise Refused(f"{name!r:.60} cannot be the name of a WITH query here")
        return name.lower()

    def _table(self, found: dict[str, Any], known: frozenset[str]) -> None:
        name = str(found["table_name"])
        if found.get("type") == "SHOW_REF":
            raise Refused("DESCRIBE, SHOW and SUMMARIZE are not available here")
        if found["catalog_name"] or found.get("schema_name"):
            raise Refused(f"{name!r:.60} is not available here; there are the views runs and events")
        if name.lower() not in known:
            raise Refused(f"there is no {name!r:.60} here; there are the views runs and events")


def _cte_names(root: Any) -> list[str]:
    names = [str(entry["key"]) for found in _dicts(root) for entry in _entries(found)]
    return [*names, *(str(found["cte_name"]) for found in _dicts(root) if "cte_name" in found)]


def _entries(found: dict[str, Any]) -> list[dict[str, Any]]:
    ctes = found.get("cte_map")
    return ctes["map"] if isinstance(ctes, dict) else []


def _dicts(root: Any) -> list[dict[str, Any]]:
    """Every object of a JSON value. Without recursion: the tree is as deep as who wrote it likes."""
    found: list[dict[str, Any]] = []
    left = [root]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            found.append(value)
            left += value.values()
        elif isinstance(value, list):
            left += value
    return found
