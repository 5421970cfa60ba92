"""The runner: aiohttp's own, but what is no HTTP that it can read is refused as every other request is."""

from __future__ import annotations

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from runlake_query.problems import CONTENT_TYPE, Problem

MAX_LINE_BYTES = 64 * 1024
"""The request line: a thousand filters fit."""


class ProblemRunner(web.AppRunner):
    """Serves an application. aiohttp has no public place for this: it makes its request handlers in its server.

    A request whose client leaves is cancelled, so that a heavy read frees its thread. Of a write this changes nothing:
    what was sent to ingest is stored, and who retries it is told so.
    """

    def __init__(self, app: web.Application, *, shutdown_timeout: float) -> None:
        super().__init__(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            max_line_size=MAX_LINE_BYTES,
            shutdown_timeout=shutdown_timeout,
        )

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server
        return server


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Handler(self, loop=self._loop, **self._kwargs)


class _Handler(RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Called for what could not be parsed; errors of handlers have been answered before."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        detail = "This is no HTTP request that can be read." if status < 500 else "Something went wrong here."
        response = web.Response(status=status, body=Problem(status, detail).body(), content_type=CONTENT_TYPE)
        response.force_close()
        return response
