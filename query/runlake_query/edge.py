"""The edge: what every request passes on its way in and out. The one place where errors become answers."""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit
from uuid import uuid4

from aiohttp import web

from runlake.logs import Log
from runlake_query.auth import Auth
from runlake_query.bodies import MAX_BODY_BYTES, TooLarge
from runlake_query.compression import compress
from runlake_query.cors import Cors
from runlake_query.hosts import Hosts
from runlake_query.metricspage import Metrics
from runlake_query.positions import format_positions
from runlake_query.problems import CONTENT_TYPE, Problem
from runlake_query.progress import Progress
from runlake_query.sessions import COOKIE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Edge:
    """In: is this a preflight, may this be asked. Out: problems, gzip, cross-origin headers, counts."""

    def __init__(self, auth: Auth, hosts: Hosts, cors: Cors, metrics: Metrics, progress: Progress, log: Log) -> None:
        self._auth = auth
        self._hosts = hosts
        self._cors = cors
        self._metrics = metrics
        self._progress = progress
        self._log = log

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        begun = time.perf_counter()
        response = await self._answer(request, handler)
        if not response.prepared:
            compress(request, response)
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else None
        self._metrics.answered(request.method, route, response.status, time.perf_counter() - begun)
        return response

    async def allow_origin(self, request: web.Request, response: web.StreamResponse) -> None:
        """Before the headers of any answer go out, also of one that stays open: which pages may read it."""
        if "Access-Control-Allow-Origin" not in response.headers:  # a preflight's answer has its own
            response.headers.extend(self._cors.headers(request.headers.get("Origin")))

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.method == "OPTIONS":
                preflight = self._cors.preflight(request.headers)
                if preflight is not None:
                    return web.Response(status=204, headers=preflight)
            self._hosts.check(request.headers.get("Host"))
            if self._auth.guards:
                authorization = request.headers.get("Authorization")
                session = _session(request) if authorization is None else None
                self._auth.check(request.method, request.path, authorization, session)
            return await handler(request)
        except Problem as problem:
            return self._problem(problem)
        except web.HTTPNotFound:
            return self._problem(Problem(404, f"There is nothing at {request.path}."))
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            detail = f"{request.method} is not allowed at {request.path}; allowed: {allowed}."
            return self._problem(Problem(405, detail, headers={"Allow": allowed}))
        except web.HTTPRequestEntityTooLarge:
            return self._problem(TooLarge(f"The body is too large; allowed are {MAX_BODY_BYTES:,} bytes."))
        except web.HTTPException as error:
            return self._problem(Problem(error.status, error.reason))
        except ConnectionResetError:  # who asked has gone; there is nobody to answer
            raise
        except Exception as error:  # noqa: BLE001 (the edge: logged with its cause, answered without it)
            reference = str(uuid4())
            self._log.error(
                "request_failed",
                id=reference,
                method=request.method,
                path=request.path_qs,
                error=f"{type(error).__name__}: {error}",
                trace=traceback.format_exc(),
            )
            return self._problem(Problem(500, f"Something went wrong here; the log has more under the id {reference}."))

    def _problem(self, problem: Problem) -> web.Response:
        headers = problem.headers
        if problem.status == 503 or problem.positions is not None:
            headers = {**headers, "RunLake-Lag-Ms": str(self._progress.lag_ms())}
        if problem.positions is not None:
            headers = {**headers, "RunLake-Position": format_positions(problem.positions)}
        return web.Response(status=problem.status, body=problem.body(), content_type=CONTENT_TYPE, headers=headers)


def _session(request: web.Request) -> str | None:
    """The session's cookie, unless a page of another origin sent the request."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        return None
    return request.cookies.get(COOKIE)
