"""Exports: runs, events and rollups as CSV, NDJSON or Parquet; all that match, at one position.

The rows are copied into a file from one transaction, and the file is sent: what the client's pace holds is a file that
is gone when it has left, and never the read model. At most so many exports are made or sent at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from runlake.fields import RUN_FIELDS
from runlake.lake.duck import quote
from runlake.sqlfile import load_queries
from runlake_query import rollups, runs
from runlake_query.connected import while_connected
from runlake_query.files import send_file
from runlake_query.filters import SINGLE_FILTERS, where
from runlake_query.formats import CSV, EXPORTS, NDJSON, PARQUET, Format
from runlake_query.freshness import Freshness
from runlake_query.negotiation import wanted_format
from runlake_query.parameters import Parameters
from runlake_query.positions import Positions, format_positions
from runlake_query.problems import InvalidParameter, TooBusy
from runlake_query.progress import Progress
from runlake_query.reader import Reader, Snapshot
from runlake_query.staleclock import stale_clock

_SQL = load_queries("runlake_query", "exports.sql")
_OPTIONS = {
    CSV: "FORMAT csv, HEADER true, USE_TMP_FILE false",
    NDJSON: "FORMAT json, USE_TMP_FILE false",
    # Of its groups each thread holds one in memory.
    PARQUET: "FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 30720, USE_TMP_FILE false",
}
MAX_AT_ONCE = 4
MAX_ROWS = 2**62
MAX_ORDERED = 100_000
"""So many runs at most are exported newest first; more of them as they come."""
EVENT_PARAMETERS = ("format", "after", "type", "ts_from", "ts_to", *SINGLE_FILTERS)
EVENT_REPEATABLE = runs.LIST_REPEATABLE
_RUN_TYPES = {field.name: field.sql_type for field in RUN_FIELDS}
_EVENT_TYPES = {
    **{"event_id": "UUID", "run_id": "VARCHAR", "run_event_id": "UUID", "ts": "TIMESTAMPTZ", "type": "VARCHAR"},
    **{"payload": "JSON", "trace_id": "VARCHAR", "span_id": "VARCHAR", "parent_span_id": "VARCHAR"},
}
_TIMES = ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Query = tuple[str, dict[str, object]]


class _Written(NamedTuple):
    rows: int
    positions: Positions


class Exports:
    """The handlers. On the event loop. `folder` is theirs alone."""

    def __init__(self, reader: Reader, folder: Path, freshness: Freshness, progress: Progress) -> None:
        self._reader = reader
        self._folder = folder
        self._freshness = freshness
        self._progress = progress
        self._running = 0
        self._made = 0

    def start(self) -> None:
        """Begin with an empty folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, mode=0o700)

    def runs(self, otherwise: Handler) -> Handler:
        """`GET /api/v1/runs`, answered by `otherwise` where JSON is wanted."""

        async def handle(request: web.Request) -> web.StreamResponse:
            kind = wanted_format(request, EXPORTS)
            if kind is None:
                return await otherwise(_without_format(request))
            parameters = _parameters(request, runs.LIST_PARAMETERS, runs.LIST_REPEATABLE)
            _refuse(parameters, "cursor", "offset", "order_by")
            return await self._export(request, "runs", kind, parameters, partial(runs_query, parameters, kind))

        return handle

    def rollups(self, otherwise: Handler) -> Handler:
        """`GET /api/v1/rollups`, answered by `otherwise` where JSON is wanted."""

        async def handle(request: web.Request) -> web.StreamResponse:
            kind = wanted_format(request, EXPORTS)
            if kind is None:
                return await otherwise(_without_format(request))
            parameters = _parameters(request, rollups.PARAMETERS, rollups.REPEATABLE)
            return await self._export(request, "rollup", kind, parameters, partial(_rollup, parameters, kind))

        return handle

    async def events(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/v1/events`; NDJSON by default."""
        if request.query.get("format") == "json":
            raise InvalidParameter("format", f"known are {', '.join(kind.name for kind in EXPORTS)}")
        kind = wanted_format(request, EXPORTS) or NDJSON
        parameters = _parameters(request, EVENT_PARAMETERS, EVENT_REPEATABLE)
        work = partial(events_query, parameters, kind)
        return await self._export(request, "events", kind, parameters, work, with_lake=True)

    async def _export(
        self,
        request: web.Request,
        name: str,
        kind: Format,
        parameters: Parameters,
        query: Callable[[Snapshot], Query],
        *,
        with_lake: bool = False,
    ) -> web.StreamResponse:
        await self._freshness.before_read(parameters.after())
        headers = {
            "Content-Type": kind.content_type if kind is PARQUET else f"{kind.content_type}; charset=utf-8",
            "Content-Disposition": f'attachment; filename="{name}.{kind.ending}"',
        }
        if request.method == "HEAD":
            return web.Response(headers=headers | self._reflects(self._progress.positions))
        if self._running >= MAX_AT_ONCE:
            raise TooBusy
        self._running += 1
        self._made += 1
        path = self._folder / str(self._made)
        try:

            def work(snapshot: Snapshot) -> _Written:
                text, values = query(snapshot)
                return _Written(snapshot.one(copy_statement(text, path, kind), values)[0], snapshot.positions)

            written = await while_connected(request, self._reader.read(work, with_lake=with_lake))
            told = {"RunLake-Rows": str(written.rows), **self._reflects(written.positions)}
            return await send_file(request, path, headers | told)
        finally:
            self._running -= 1
            path.unlink(missing_ok=True)

    def _reflects(self, positions: Positions) -> dict[str, str]:
        return {"RunLake-Position": format_positions(positions), "RunLake-Lag-Ms": str(self._progress.lag_ms())}


def _parameters(request: web.Request, known: tuple[str, ...], repeatable: tuple[str, ...]) -> Parameters:
    return Parameters(request.query.items(), ("format", *known), repeatable, stale_clock(request))


def _refuse(parameters: Parameters, *names: str) -> None:
    for name in names:
        if parameters.text(name) is not None:
            raise InvalidParameter(name, "belongs to pages of JSON; an export has all that match, or the first `limit`")


def _without_format(request: web.Request) -> web.Request:
    return request.clone(rel_url=request.rel_url.without_query_params("format"))


def _limit(parameters: Parameters) -> int | None:
    return parameters.integer("limit", None, 1, MAX_ROWS)


def copy_statement(query: str, path: Path, kind: Format) -> str:
    """What writes the rows of a query into a file."""
    return _SQL["copy"].format(query=query, path=quote(str(path)), options=_OPTIONS[kind])


def runs_query(parameters: Parameters, kind: Format, snapshot: Snapshot) -> Query:
    """All runs that match, or the newest `limit` of them."""
    condition, limit = where(parameters), _limit(parameters)
    values: dict[str, object] = dict(condition.values)
    if limit is not None:
        values["limit"] = limit
    query = _SQL["runs" if limit is None else "newest_runs"]
    text = query.format(columns=_columns(_RUN_TYPES, kind), where=condition.sql, shown=snapshot.shown)
    few = limit is not None and limit <= MAX_ORDERED
    return _SQL["newest_first" if few else "in_any_order"].format(query=text), values


def events_query(parameters: Parameters, kind: Format, snapshot: Snapshot) -> Query:
    """All events that match; of a snapshot with the lake."""
    condition = where(parameters)
    values: dict[str, object] = dict(condition.values)
    conditions = [_SQL["of_runs"].format(where=condition.sql)] if condition.values else []
    if parameters.text("type") is not None:
        conditions.append(_SQL["of_type"])
        values["type"] = parameters.text("type")
    for name in ("ts_from", "ts_to"):
        time = parameters.time(name)
        if time is not None:
            conditions.append(_SQL[name])
            values[name] = time.isoformat()
    text = _SQL["events"].format(
        columns=_columns(_EVENT_TYPES, kind), lake=snapshot.lake, where=" AND ".join(conditions) or "true"
    )
    return _SQL["in_any_order"].format(query=text), values


def _rollup(parameters: Parameters, kind: Format, snapshot: Snapshot) -> Query:
    """All rows of a rollup, or the first `limit`; as `rollups.rollup` makes them, with their types."""
    query, values, order = rollups.rows_query(snapshot, parameters)
    types = dict(snapshot.rows(_SQL["types"].format(query=query), values))
    limit = _limit(parameters)
    if limit is not None:
        values["limit"] = limit
    text = _SQL["rollup" if limit is None else "first_rows_of_rollup"]
    return text.format(columns=_columns(types, kind), query=query, order=order), values


def _columns(types: dict[str, str], kind: Format) -> str:
    """Columns as they are written: as they are, but times as the API shows them where they are text."""
    return ", ".join(_column(name, sql_type, kind) for name, sql_type in types.items())


def _column(name: str, sql_type: str, kind: Format) -> str:
    if kind is not PARQUET and sql_type in _TIMES:
        return f"rfc3339({name}) AS {name}"
    if kind is PARQUET and sql_type == "HUGEINT":  # the type of sums; Parquet has none so large
        return f"{name}::DECIMAL(38, 0) AS {name}"
    return name
