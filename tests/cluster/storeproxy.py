"""Between the cluster and its object storage: passes everything on, answers 503 in its place, or lets it wait."""

from __future__ import annotations

import asyncio
import io
import threading
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

_SLOW_DOWN = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    "<Message>Please reduce your request rate.</Message></Error>"
)
_KEPT_BY_EACH_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"))
_MAX_BYTES = 1 << 30


class StoreProxy:
    """Use as a context manager. `refusing` and `delay_s` may be set at any time, for what is asked from then on."""

    def __init__(self, host: str, upstream: str) -> None:
        self.refusing = False
        self.delay_s = 0.0
        self.requests = 0
        self.struck = 0
        """How many were refused, or had to wait."""
        self.endpoint = ""
        self._host = host
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="storeproxy")

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._client = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=_MAX_BYTES)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, 0).start()
        self.endpoint = f"http://{self._host}:{self._runner.addresses[0][1]}"

    async def _end(self) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _pass(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        if self.refusing:
            self.struck += 1
            return web.Response(status=503, text=_SLOW_DOWN, content_type="application/xml")
        if self.delay_s:
            self.struck += 1
            await asyncio.sleep(self.delay_s)
        sent = {name: value for name, value in request.headers.items() if name.lower() not in _KEPT_BY_EACH_HOP}
        url = URL(f"{self._upstream}{request.raw_path}", encoded=True)
        async with self._client.request(request.method, url, headers=sent, data=io.BytesIO(body)) as answer:
            content = await answer.read()
            headers = {name: value for name, value in answer.headers.items() if name.lower() not in _KEPT_BY_EACH_HOP}
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                headers["Content-Length"] = answer.headers["Content-Length"]
            return web.Response(
                status=answer.status, headers=headers, body=None if request.method == "HEAD" else content
            )
