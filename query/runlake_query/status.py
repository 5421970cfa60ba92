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

_LATE_MS = 5_000
"""While the lake is away, and every worker's feed is heard, a read model that is later than this is not ready."""


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
        away = [str(link.worker or "not known yet") for link in self._gateway.workers if not link.connected]
        return value_answer({"status": "ok", "version": self._version, "uptime_s": uptime_s, "workers_away": away})

    async def ready(self, request: web.Request) -> web.Response:
        """`GET /ready`"""
        query(request)
        state, lag_ms = self._progress.state, self._progress.lag_ms()
        if not state.caught_up:
            raise self._freshness.not_ready()
        if not state.following and (not self._progress.feed_live or lag_ms > _LATE_MS):
            raise NotReady(f"The read model is {lag_ms} ms behind: {state.reason}")
        position = format_positions(self._progress.positions)
        body = {
            "status": "ready",
            "lag_ms": lag_ms,
            "position": position,
            "failures": state.failures,
            "lake_followed": state.following,
            "reason": state.reason,
            "ingest_connected": self._gateway.connected,
            "feed_heard": self._progress.feed_live,
            "workers": self._workers(),
        }
        return value_answer(body)

    def _workers(self) -> list[dict[str, object]]:
        heard, positions = self._progress.heard_workers, self._progress.positions
        return [
            {
                "worker": link.worker and str(link.worker),
                "connected": link.connected,
                "reason": link.reason,
                "feed_heard": link.worker is not None and heard.get(link.worker, False),
                "position": positions.get(link.worker, 0) if link.worker is not None else 0,
            }
            for link in self._gateway.workers
        ]

    async def metrics(self, request: web.Request) -> web.Response:
        """`GET /metrics`: Prometheus text, or the JSON summary for those who ask for it."""
        if JSON in request.headers.get("Accept", ""):
            return await self._reads.summary(request)
        query(request)
        return web.Response(body=self._metrics.page(), headers={"Content-Type": CONTENT_TYPE})
