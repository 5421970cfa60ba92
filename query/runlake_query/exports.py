"""Exports: runs, events and rollups as CSV, NDJSON or Parquet; all that match, at one position.

At most so many are made or sent at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from aiohttp import web

from runlake.fields import RUN_FIELDS
from runlake.logs import Log
from runlake.sqlfile import load_queries
from runlake_query import rollups, runs
from runlake_query.exportsender import ExportSender
from runlake_query.exportwriter import STRETCH_ROWS, Rows, Timed
from runlake_query.filters import SINGLE_FILTERS, where
from runlake_query.formats import EXPORTS, NDJSON, PARQUET, Format
from runlake_query.freshness import Freshness
from runlake_query.negotiation import wanted_format
from runlake_query.parameters import Parameters
from runlake_query.positions import Positions, format_positions
from runlake_query.problems import InvalidParameter, TooBusy
from runlake_query.progress import Progress
from runlake_query.reader import Reader, Snapshot
from runlake_query.staleclock import stale_clock

_SQL = load_queries("runlake_query", "exports.sql")
MAX_AT_ONCE = 4
MAX_ROWS = 2**62
EVENT_PARAMETERS = ("format", "after", "type", "ts_from", "ts_to", *SINGLE_FILTERS)
EVENT_REPEATABLE = runs.LIST_REPEATABLE
_RUN_TYPES = {field.name: field.sql_type for field in RUN_FIELDS}
_EVENT_TYPES = {
    **{"event_id": "UUID", "run_id": "VARCHAR", "run_event_id": "UUID", "ts": "TIMESTAMPTZ", "type": "VARCHAR"},
    **{"payload": "JSON", "trace_id": "VARCHAR", "span_id": "VARCHAR", "parent_span_id": "VARCHAR"},
}
_TIMES = ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Exports:
    """The handlers. On the event loop. `folder` is theirs alone."""

    def __init__(self, reader: Reader, folder: Path, freshness: Freshness, progress: Progress, log: Log) -> None:
        self._sender = ExportSender(reader, folder, log)
        self._folder = folder
        self._freshness = freshness
        self._progress = progress
        self._running = 0

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
            return await self._export(request, "runs", kind, parameters, partial(runs_rows, parameters, kind))

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
        work = partial(events_rows, parameters, kind)
        return await self._export(request, "events", kind, parameters, work, with_lake=True)

    async def _export(
        self,
        request: web.Request,
        name: str,
        kind: Format,
        parameters: Parameters,
        wanted: Callable[[Snapshot], Rows],
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
        try:
            return await self._sender.send(
                request, wanted, kind, lambda positions: headers | self._reflects(positions), with_lake=with_lake
            )
        finally:
            self._running -= 1

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


def runs_rows(parameters: Parameters, kind: Format, snapshot: Snapshot) -> Rows:
    """All runs that match, or the newest `limit` of them; the newest first."""
    condition, limit = where(parameters), _limit(parameters)
    common = {"columns": _columns(_RUN_TYPES, kind, "shown"), "shown": snapshot.shown, "where": condition.sql}
    if limit is not None and limit <= STRETCH_ROWS:
        few = _SQL["newest_runs"].format(**common, limit=limit)
        return Rows(lambda _: few, dict(condition.values))
    timed = Timed("shown.start_time", _SQL["starts_of_runs"].format(**common), descends=True)
    return Rows(lambda within: _SQL["runs"].format(**common, within=within), dict(condition.values), limit, timed)


def events_rows(parameters: Parameters, kind: Format, snapshot: Snapshot) -> Rows:
    """All events that match, the oldest first; of a snapshot with the lake."""
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
    common = {"columns": _columns(_EVENT_TYPES, kind, "every_event"), "where": " AND ".join(conditions) or "true"}

    def of_all(wanted: str) -> str:
        return _SQL["events"].format(lake=snapshot.lake, wanted=wanted)

    timed = Timed("every_event.ts", of_all(_SQL["times_of_events"].format(**common)), descends=False)
    return Rows(lambda within: of_all(_SQL["events_in_order"].format(**common, within=within)), values, timed=timed)


def _rollup(parameters: Parameters, kind: Format, snapshot: Snapshot) -> Rows:
    """All rows of a rollup, or the first `limit`; as `rollups.rollup` makes them, with their types."""
    query, values, order = rollups.rows_query(snapshot, parameters)
    types = dict(snapshot.rows(_SQL["types"].format(query=query), values))
    text = _SQL["rollup"].format(columns=_columns(types, kind, "made"), query=query, order=order)
    return Rows(lambda _: text, values, _limit(parameters))


def _columns(types: dict[str, str], kind: Format, table: str) -> str:
    """Columns as they are written: as they are, but times as the API shows them where they are text."""
    return ", ".join(_column(name, sql_type, kind, table) for name, sql_type in types.items())


def _column(name: str, sql_type: str, kind: Format, table: str) -> str:
    if kind is not PARQUET and sql_type in _TIMES:
        return f"rfc3339({table}.{name}) AS {name}"
    if kind is PARQUET and sql_type == "HUGEINT":  # the type of sums; Parquet has none so large
        return f"{table}.{name}::DECIMAL(38, 0) AS {name}"
    return f"{table}.{name}"
