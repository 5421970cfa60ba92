"""The read endpoints: wait until the read may begin, run it on a thread, and say what it reflects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import TypeVar

from aiohttp import web

from runlake_query import books, events, rollups, runs
from runlake_query.answers import JSON, NDJSON, json_answer
from runlake_query.etag import tagged
from runlake_query.freshness import Freshness
from runlake_query.jsontext import array
from runlake_query.metadata import MetadataCache, list_metadata, summary
from runlake_query.parameters import Parameters
from runlake_query.points import Points
from runlake_query.positions import Positions, format_positions
from runlake_query.problems import NotFound
from runlake_query.progress import Progress
from runlake_query.reader import Reader, Snapshot

T = TypeVar("T")
Work = Callable[[Snapshot], bytes]
AFTER = ("after",)


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
        self._metadata = MetadataCache()

    async def runs(self, request: web.Request) -> web.Response:
        """`GET /api/v1/runs`"""
        parameters = query(request, runs.LIST_PARAMETERS, runs.LIST_REPEATABLE)
        return await self._listed(request, parameters, lambda snapshot: runs.list_runs(snapshot, parameters))

    async def run(self, request: web.Request) -> web.Response:
        """`GET /api/v1/runs/{run_id}`"""
        parameters, run_id = query(request, AFTER), request.match_info["run_id"]
        await self._freshness.before_read(parameters.after())
        found = await self._points.by_name(run_id)
        if found.run is None and await self._freshness.before_not_found(found.positions):
            found = await self._points.by_name(run_id)
        if found.run is None:
            raise NotFound(f"Run not found: {run_id}")
        return tagged(request, json_answer(found.run.body, headers=self._reflects(found.positions)))

    async def events(self, request: web.Request) -> web.Response:
        """`GET /api/v1/runs/{run_id}/events`"""
        parameters, run_id = query(request, events.PARAMETERS), request.match_info["run_id"]
        lines = NDJSON in request.headers.get("Accept", "")

        def work(snapshot: Snapshot, *, with_lake: bool = False) -> tuple[bytes, str | None, Positions]:
            found = events.list_events(snapshot, run_id, parameters, with_lake=with_lake)
            text = "".join(f"{item}\n" for item in found.items) if lines else array(found.items)
            return text.encode(), found.next_cursor, snapshot.positions

        async def read() -> tuple[bytes, str | None, Positions]:
            try:
                return await self._reader.read(work)
            except events.NeedsLake:
                return await self._reader.read(lambda snapshot: work(snapshot, with_lake=True), with_lake=True)

        await self._freshness.before_read(parameters.after())
        body, next_cursor, positions = await self._again_before_404(read)
        headers = self._reflects(positions) | ({"RunLake-Next-Cursor": next_cursor} if next_cursor else {})
        return json_answer(body, headers=headers | {"Content-Type": f"{NDJSON if lines else JSON}; charset=utf-8"})

    async def rollups(self, request: web.Request) -> web.Response:
        """`GET /api/v1/rollups`"""
        parameters = query(request, rollups.PARAMETERS, rollups.REPEATABLE)
        return await self._listed(request, parameters, lambda snapshot: rollups.rollup(snapshot, parameters))

    async def producers(self, request: web.Request) -> web.Response:
        """`GET /api/v1/producers`"""
        parameters = query(request, books.PRODUCER_PARAMETERS)
        return await self._listed(request, parameters, lambda snapshot: books.list_producers(snapshot, parameters))

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
        positions = self._progress.positions
        body = self._metadata.at(positions)
        if body is None:
            text, positions = await self._reader.read(lambda snapshot: (list_metadata(snapshot), snapshot.positions))
            body = self._metadata.keep(positions, text)
        return json_answer(body, headers=self._reflects(positions))

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
        return {"RunLake-Position": format_positions(positions), "RunLake-Lag-Ms": str(self._progress.lag_ms())}


def query(request: web.Request, known: Iterable[str] = (), repeatable: Iterable[str] = ()) -> Parameters:
    """The checked query string. Raises InvalidParameter."""
    return Parameters(request.query.items(), known, repeatable)
