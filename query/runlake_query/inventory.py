"""What there is: which values a dimension has, and of which files the lake is made. The handlers, on the event loop."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from runlake.fields import DIMENSIONS
from runlake.sqlfile import load_queries
from runlake_query.answers import json_answer
from runlake_query.etag import tagged
from runlake_query.filters import SINGLE_FILTERS, where
from runlake_query.freshness import Freshness
from runlake_query.jsontext import encode
from runlake_query.parameters import Parameters, one_of
from runlake_query.positions import format_positions
from runlake_query.progress import Progress
from runlake_query.reader import Reader, Snapshot
from runlake_query.reads import query

VALUE_PARAMETERS = ("dimension", "prefix", "limit", "after", *SINGLE_FILTERS)
VALUE_REPEATABLE = DIMENSIONS
LAKE_PARAMETERS = ("after",)
_SQL = load_queries("runlake_query", "inventory.sql")


class Inventory:
    """The handlers."""

    def __init__(self, reader: Reader, freshness: Freshness, progress: Progress) -> None:
        self._reader = reader
        self._freshness = freshness
        self._progress = progress

    async def values(self, request: web.Request) -> web.Response:
        """`GET /api/v1/values`"""
        parameters = query(request, VALUE_PARAMETERS, VALUE_REPEATABLE)
        return await self._answer(request, parameters, lambda snapshot: list_values(snapshot, parameters))

    async def lake(self, request: web.Request) -> web.Response:
        """`GET /api/v1/lake`"""
        return await self._answer(request, query(request, LAKE_PARAMETERS), list_files, with_lake=True)

    async def _answer(
        self,
        request: web.Request,
        parameters: Parameters,
        work: Callable[[Snapshot], bytes],
        *,
        with_lake: bool = False,
    ) -> web.Response:
        await self._freshness.before_read(parameters.after())
        body, positions = await self._reader.read(
            lambda snapshot: (work(snapshot), snapshot.positions), with_lake=with_lake
        )
        reflects = {"RunLake-Position": format_positions(positions), "RunLake-Lag-Ms": str(self._progress.lag_ms())}
        return tagged(request, json_answer(body, headers=reflects))


def list_values(snapshot: Snapshot, parameters: Parameters) -> bytes:
    """The body of `GET /api/v1/values`. Raises InvalidParameter."""
    dimension = one_of("dimension", parameters.text("dimension") or DIMENSIONS[0], DIMENSIONS)
    condition, limit = where(parameters), parameters.limit()
    asked = _SQL["values"].format(column=dimension, where=condition.sql, shown=snapshot.shown)
    values = {**condition.values, "prefix": parameters.text("prefix") or "", "rows": limit + 1}
    rows = snapshot.rows(asked, values)
    found = [{"value": value, "runs": runs} for value, runs in rows[:limit]]
    return encode({"dimension": dimension, "values": found, "truncated": len(rows) > limit})


def list_files(snapshot: Snapshot) -> bytes:
    """The body of `GET /api/v1/lake`."""
    rows = snapshot.lake_rows(_SQL["files"].format(lake=snapshot.lake))
    tables = [{"table": name, "files": files or 0, "bytes": size or 0} for name, files, size in rows]
    files, size = (sum(table[name] for table in tables) for name in ("files", "bytes"))
    return encode({"files": files, "bytes": size, "tables": tables})
