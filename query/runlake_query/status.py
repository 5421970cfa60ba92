"""Is this process alive, can it answer, and what has it done?"""

from __future__ import annotations

import time
from importlib.metadata import version

from aiohttp import web

from runlake_query.answers import JSON, value_answer
from runlake_query.freshness import Freshness
from runlake_query.gateway import Gateway
from runlake_query.metricspage import CONTENT_TYPE, Metrics
from runlake_query.positions import format_positions
from runlake_query.problems import NotReady
from runlake_query.progress import Progress
from runlake_query.reads import Reads, query


class Status:
    """The handlers. On the event loop."""

    def __init__(
        self, progress: Progress, gateway: Gateway, freshness: Freshness, metrics: Metrics, reads: Reads
    ) -> None:
        self._progress = progress
        self._gateway = gateway
        self._freshness = freshness
        self._metrics = metrics
        self._reads = reads
        self._started = time.monotonic()
        self._version = version("runlake")

    async def health(self, request: web.Request) -> web.Response:
        """`GET /health`"""
        query(request)
        uptime_s = round(time.monotonic() - self._started, 3)
        return value_answer({"status": "ok", "version": self._version, "uptime_s": uptime_s})

    async def ready(self, request: web.Request) -> web.Response:
        """`GET /ready`"""
        query(request)
        state, lag_ms = self._progress.state, self._progress.lag_ms()
        if not state.caught_up:
            raise self._freshness.not_ready()
        if not state.following:
            raise NotReady(f"The read model is {lag_ms} ms behind: {state.reason}")
        position = format_positions(self._progress.positions)
        body = {
            "status": "ready",
            "lag_ms": lag_ms,
            "position": position,
            "failures": state.failures,
            "ingest_connected": self._gateway.connected,
            "feed_heard": self._progress.feed_live,
        }
        return value_answer(body)

    async def metrics(self, request: web.Request) -> web.Response:
        """`GET /metrics`: Prometheus text, or the JSON summary for those who ask for it."""
        if JSON in request.headers.get("Accept", ""):
            return await self._reads.summary(request)
        query(request)
        return web.Response(body=self._metrics.page(), headers={"Content-Type": CONTENT_TYPE})
