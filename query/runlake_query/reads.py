"""The read endpoints: wait until the read may begin, run it on a thread, and say what it reflects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import TypeVar

from aiohttp import web

from runlake_query import books, events, pricelist, rollups, runs
from runlake_query.answers import JSON, NDJSON, json_answer
from runlake_query.etag import tagged
from runlake_query.events import Events
from runlake_query.freshness import Freshness
from runlake_query.jsontext import array
from runlake_query.metadata import MetadataCache, list_metadata, summary
from runlake_query.model import State
from runlake_query.newest import NewestPages
from runlake_query.parameters import Parameters
from runlake_query.points import Points
from runlake_query.positions import Positions, format_positions
from runlake_query.problems import NotFound
from runlake_query.progress import Progress
from runlake_query.reader import Reader, Snapshot
from runlake_query.staleclock import stale_clock
from runlake_query.starttimes import StartTimes
from runlake_query.totals import Totals

T = TypeVar("T")
Work = Callable[[Snapshot], bytes]
AFTER = ("after",)
_PAGE = 1_000


class Reads:
    """The handlers. On the event loop."""

    def __init__(
        self,
        reader: Reader,
        points: Points,
        freshness: Freshness,
        progress: Progress,
        utcnow: Callable[[], datetime],
    ) -> None:
        self._reader = reader
        self._points = points
        self._freshness = freshness
        self._progress = progress
        self._utcnow = utcnow
        self._written: Positions = {}
        self._written_as = ""
        self._metadata = MetadataCache()
        self._lists = runs.ListMemory(Totals(), NewestPages(), StartTimes(), points.recent_bodies)

    async def runs(self, request: web.Request) -> web.Response:
        """`GET /api/v1/runs`"""
        parameters = query(request, runs.LIST_PARAMETERS, runs.LIST_REPEATABLE)
        return await self._listed(
            request, parameters, lambda snapshot: runs.list_runs(snapshot, parameters, self._lists)
        )

    async def run(self, request: web.Request) -> web.Response:
        """`GET /api/v1/runs/{run_id}`"""
        run_id = request.match_info["run_id"]
        await self._freshness.before_read(query(request, AFTER).after() if request.query_string else {})
        found = await self._points.by_name(run_id)
        if found.run is None and await self._freshness.before_not_found(found.positions):
            found = await self._points.by_name(run_id)
        if found.run is None:
            missing = NotFound(f"Run not found: {run_id}")
            missing.positions = found.positions
            raise missing
        return tagged(request, json_answer(found.run.body, headers=self._reflects(found.positions)))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/v1/runs/{run_id}/events`"""
        parameters, run_id = query(request, events.PARAMETERS), request.match_info["run_id"]
        await self._freshness.before_read(parameters.after())
        lines = NDJSON in request.headers.get("Accept", "")
        if lines and not parameters.text("limit") and not parameters.text("cursor"):
            return await self._all_lines(request, run_id, parameters)
        found, positions = await self._again_before_404(lambda: self._events(run_id, parameters))
        headers = self._reflects(positions) | ({"RunLake-Next-Cursor": found.next_cursor} if found.next_cursor else {})
        body = _lines(found.items) if lines else array(found.items).encode()
        return json_answer(body, headers=headers | {"Content-Type": f"{NDJSON if lines else JSON}; charset=utf-8"})

    async def _all_lines(self, request: web.Request, run_id: str, parameters: Parameters) -> web.StreamResponse:
        """All events as lines, a page at a time: a run may have more of them than fit in memory."""
        kind = parameters.text("type")

        def page(cursor: str | None) -> Parameters:
            asked = {"limit": str(_PAGE), "type": kind, "cursor": cursor}
            return Parameters([(name, value) for name, value in asked.items() if value], events.PARAMETERS)

        found, positions = await self._again_before_404(lambda: self._events(run_id, page(None)))
        response = web.StreamResponse(headers=self._reflects(positions) | {"Content-Type": f"{NDJSON}; charset=utf-8"})
        await response.prepare(request)
        while found.items:
            await response.write(_lines(found.items))
            if found.next_cursor is None:
                break
            found, _ = await self._events(run_id, page(found.next_cursor))
        await response.write_eof()
        return response

    async def _events(self, run_id: str, parameters: Parameters) -> tuple[Events, Positions]:
        def work(snapshot: Snapshot, *, with_lake: bool = False) -> tuple[Events, Positions]:
            return events.list_events(snapshot, run_id, parameters, with_lake=with_lake), snapshot.positions

        try:
            return await self._reader.read(work)
        except events.NeedsLake:
            return await self._reader.read(lambda snapshot: work(snapshot, with_lake=True), with_lake=True)

    async def rollups(self, request: web.Request) -> web.Response:
        """`GET /api/v1/rollups`"""
        parameters = query(request, rollups.PARAMETERS, rollups.REPEATABLE)
        return await self._listed(request, parameters, lambda snapshot: rollups.rollup(snapshot, parameters))

    async def producers(self, request: web.Request) -> web.Response:
        """`GET /api/v1/producers`"""
        parameters = query(request, books.PRODUCER_PARAMETERS)
        return await self._listed(request, parameters, lambda snapshot: books.list_producers(snapshot, parameters))

    async def prices(self, request: web.Request) -> web.Response:
        """`GET /api/v1/prices`"""
        return await self._listed(request, query(request, AFTER), pricelist.show_prices)

    async def quarantine(self, request: web.Request) -> web.Response:
        """`GET /api/v1/quarantine`"""
        parameters = query(request, books.QUARANTINE_PARAMETERS)
        return await self._listed(
            request, parameters, lambda snapshot: books.list_quarantine(snapshot, parameters), with_lake=True
        )

    async def metadata(self, request: web.Request) -> web.Response:
        """`GET /api/v1/metadata`"""
        parameters = query(request, AFTER)
        await self._freshness.before_read(parameters.after())
        state = State(self._progress.positions, self._reader.generation)
        body = self._metadata.at(state)
        if body is None:
            text, state = await self._reader.read(lambda snapshot: (list_metadata(snapshot), snapshot.state))
            body = self._metadata.keep(state, text)
        return json_answer(body, headers=self._reflects(state.positions))

    async def summary(self, request: web.Request) -> web.Response:
        """`GET /metrics` as JSON."""
        now = self._utcnow()
        return await self._listed(request, query(request), lambda snapshot: summary(snapshot, now))

    async def _listed(
        self, request: web.Request, parameters: Parameters, work: Work, *, with_lake: bool = False
    ) -> web.Response:
        await self._freshness.before_read(parameters.after())
        body, positions = await self._reader.read(
            lambda snapshot: (work(snapshot), snapshot.positions), with_lake=with_lake
        )
        return tagged(request, json_answer(body, headers=self._reflects(positions)))

    async def _again_before_404(self, read: Callable[[], Awaitable[T]]) -> T:
        """Run a read; when it finds no run, catch up with the worker and run it once more."""
        reflected = self._progress.positions
        try:
            return await read()
        except NotFound:
            if not await self._freshness.before_not_found(reflected):
                raise
        return await read()

    def _reflects(self, positions: Positions) -> dict[str, str]:
        if positions is not self._written:  # the same object until something is applied
            self._written, self._written_as = positions, format_positions(positions)
        return {"RunLake-Position": self._written_as, "RunLake-Lag-Ms": str(self._progress.lag_ms())}


def _lines(items: list[str]) -> bytes:
    return "".join(f"{item}\n" for item in items).encode()


def query(request: web.Request, known: Iterable[str] = (), repeatable: Iterable[str] = ()) -> Parameters:
    """The checked query string. Raises InvalidParameter."""
    return Parameters(request.query.items(), known, repeatable, stale_clock(request))
