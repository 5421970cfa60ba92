"""Price lists in the lake: how a run's cost is computed by them, and how a new one is written.

Lists are only ever added. Who computes costs takes the one in force, and says its version beside each.
"""

from __future__ import annotations

import json
from datetime import datetime
from uuid import UUID

import duckdb

from runlake.prices import PriceList
from runlake.sqlfile import load_queries

_SQL = load_queries("runlake.lake", "prices.sql")
_KINDS = ("input", "output", "cache_read", "cache_write")
_STRUCTURE = json.dumps([{"model": "VARCHAR", "valid_from": "TIMESTAMPTZ"} | dict.fromkeys(_KINDS, "DECIMAL(18,9)")])

NEEDED = _SQL["needed"]
"""SQL on the columns of a folded run: whether its cost is to be computed."""


def in_force_query(prices: str) -> str:
    """SQL for the rows of the list in force, with until when each holds; `prices` is a table of lists."""
    return _SQL["in_force"].format(prices=prices)


def priced_query(rows: str, in_force: str) -> str:
    """SQL for `rows` with what they cost by the prices `in_force`: tables or parenthesised queries, with the columns of
    folded runs and of `in_force_query`."""
    terms = " + ".join(_SQL["term"].format(kind=kind) for kind in _KINDS)
    cost = _SQL["cost"].format(terms=terms)
    return _SQL["priced"].format(rows=rows, cost=cost, needed=NEEDED, in_force=in_force)


def latest_version(connection: duckdb.DuckDBPyConnection, prices: str) -> int:
    """The version of the list in force in the table `prices`; 0 when there is none. Raises duckdb.Error."""
    row = connection.execute(_SQL["versions"].format(prices=prices)).fetchone()
    return int(row[1]) if row else 0


def write_list(
    connection: duckdb.DuckDBPyConnection, prices: str, added: PriceList, list_id: UUID, now: datetime
) -> int:
    """Add a list to the table `prices`, in the caller's transaction; returns its version. Raises duckdb.Error."""
    version = latest_version(connection, prices) + 1
    rows: list[dict[str, str]] = []
    for price in added.prices:
        dollars = {kind: f"{getattr(price, kind):f}" for kind in _KINDS if getattr(price, kind) is not None}
        rows.append({"model": price.model, "valid_from": price.valid_from.isoformat(), **dollars})
    values = {
        "list": str(list_id),
        "version": version,
        "source": added.source,
        "written_at": now.isoformat(),
        "rows": json.dumps(rows),
        "structure": _STRUCTURE,
    }
    connection.execute(_SQL["write"].format(prices=prices), values)
    return version
