"""Where runs come from and what became of them: the handlers of trees, histories and commits. On the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from runlake_query import commits, history, trees
from runlake_query.answers import json_answer
from runlake_query.etag import tagged
from runlake_query.freshness import Freshness
from runlake_query.history import History
from runlake_query.parameters import Parameters
from runlake_query.positions import Positions, format_positions
from runlake_query.problems import NotFound
from runlake_query.progress import Progress
from runlake_query.reader import Reader, Snapshot
from runlake_query.reads import query

T = TypeVar("T")
_FLUSH_PATIENCE_S = 4.0
"""How long a history waits for the lake to have what the read model reflects of the run; twice the usual flush."""
_LOOK_EVERY_S = 0.05


class Lineage:
    """The handlers."""

    def __init__(self, reader: Reader, freshness: Freshness, progress: Progress) -> None:
        self._reader = reader
        self._freshness = freshness
        self._progress = progress

    async def tree(self, request: web.Request) -> web.Response:
        """`GET /api/v1/runs/{run_id}/tree`"""
        parameters, run_id = query(request, trees.PARAMETERS), request.match_info["run_id"]
        body, positions = await self._read(parameters, lambda snapshot: trees.show_tree(snapshot, run_id, parameters))
        return self._answer(request, body, positions)

    async def history(self, request: web.Request) -> web.Response:
        """`GET /api/v1/runs/{run_id}/history`"""
        parameters, run_id = query(request, history.PARAMETERS), request.match_info["run_id"]

        def work(snapshot: Snapshot) -> History:
            return history.show_history(snapshot, run_id, parameters)

        deadline = time.monotonic() + _FLUSH_PATIENCE_S
        found, positions = await self._read(parameters, work, with_lake=True)
        while not found.complete and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_EVERY_S)
            found, positions = await self._read(parameters, work, with_lake=True)
        return self._answer(request, found.body, positions)

    async def commit(self, request: web.Request) -> web.Response:
        """`GET /api/v1/commits/{sha}/runs`"""
        parameters, sha = query(request, commits.PARAMETERS), request.match_info["sha"]
        body, positions = await self._read(parameters, lambda snapshot: commits.commit_runs(snapshot, sha, parameters))
        return self._answer(request, body, positions)

    async def commits(self, request: web.Request) -> web.Response:
        """`GET /api/v1/runs/{run_id}/commits`"""
        parameters, run_id = query(request, commits.OF_RUN_PARAMETERS), request.match_info["run_id"]
        body, positions = await self._read(
            parameters, lambda snapshot: commits.run_commits(snapshot, run_id, parameters)
        )
        return self._answer(request, body, positions)

    async def _read(
        self, parameters: Parameters, work: Callable[[Snapshot], T], *, with_lake: bool = False
    ) -> tuple[T, Positions]:
        """Run a read. When it finds nothing, catch up with the worker and run it once more."""

        def read() -> Awaitable[tuple[T, Positions]]:
            return self._reader.read(lambda snapshot: (work(snapshot), snapshot.positions), with_lake=with_lake)

        await self._freshness.before_read(parameters.after())
        reflected = self._progress.positions
        try:
            return await read()
        except NotFound:
            if not await self._freshness.before_not_found(reflected):
                raise
        return await read()

    def _answer(self, request: web.Request, body: bytes, positions: Positions) -> web.Response:
        headers = {"RunLake-Position": format_positions(positions), "RunLake-Lag-Ms": str(self._progress.lag_ms())}
        return tagged(request, json_answer(body, headers=headers))
