"""The HTTP side: routes, the one place where errors become problems, and what every read carries."""

from __future__ import annotations

import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from aiohttp import web

from runlake.logs import Log
from runlake_query import books, events, rollups, runs
from runlake_query.jsontext import array, encode
from runlake_query.parameters import Parameters
from runlake_query.positions import format_positions
from runlake_query.problems import CONTENT_TYPE, NotReady, Problem
from runlake_query.progress import Progress
from runlake_query.reader import Answer, Reader, Snapshot

JSON = "application/json"
NDJSON = "application/x-ndjson"
_RUN_PATH = "/api/v1/runs/{run_id:[^/]+}"
"""One segment that holds any run_id, URL-encoded; aiohttp's own pattern would refuse braces."""
_AFTER_TIMEOUT_S = 5.0
"""How long a read waits for the position of `?after=`."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Work = Callable[[Snapshot], bytes]


class Server:
    """The handlers. One for each process; `app` is what aiohttp serves."""

    def __init__(self, reader: Reader, progress: Progress, log: Log, after_timeout_s: float = _AFTER_TIMEOUT_S) -> None:
        self._reader = reader
        self._progress = progress
        self._log = log
        self._after_timeout_s = after_timeout_s
        self._started = time.monotonic()
        self._version = version("runlake")

    def app(self) -> web.Application:
        """The application: every route of this process."""
        app = web.Application(middlewares=[self._problems])
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/ready", self._ready),
                web.get("/api/v1/runs", self._runs),
                web.get(_RUN_PATH, self._run),
                web.get(f"{_RUN_PATH}/events", self._events),
                web.get("/api/v1/rollups", self._rollups),
                web.get("/api/v1/producers", self._producers),
                web.get("/api/v1/quarantine", self._quarantine),
            ]
        )
        return app

    async def _health(self, request: web.Request) -> web.Response:
        _parameters(request)
        uptime_s = round(time.monotonic() - self._started, 3)
        return _json({"status": "ok", "version": self._version, "uptime_s": uptime_s})

    async def _ready(self, request: web.Request) -> web.Response:
        _parameters(request)
        state, lag_ms = self._progress.state, self._progress.lag_ms()
        if not state.caught_up:
            raise self._not_ready()
        if not state.following:
            raise NotReady(f"The read model is {lag_ms} ms behind: {state.reason}")
        position = format_positions(self._progress.positions)
        body = {"status": "ready", "lag_ms": lag_ms, "position": position, "failures": state.failures}
        return _json(body)

    async def _runs(self, request: web.Request) -> web.Response:
        parameters = _parameters(request, runs.LIST_PARAMETERS, runs.LIST_REPEATABLE)
        return await self._read(parameters, lambda snapshot: runs.list_runs(snapshot, parameters))

    async def _run(self, request: web.Request) -> web.Response:
        parameters, run_id = _parameters(request, ("after",)), request.match_info["run_id"]
        return await self._read(parameters, lambda snapshot: runs.show_run(snapshot, run_id))

    async def _events(self, request: web.Request) -> web.Response:
        parameters, run_id = _parameters(request, events.PARAMETERS), request.match_info["run_id"]
        lines = NDJSON in request.headers.get("Accept", "")
        headers: dict[str, str] = {}

        def work(snapshot: Snapshot, *, with_lake: bool = False) -> bytes:
            found = events.list_events(snapshot, run_id, parameters, with_lake=with_lake)
            if found.next_cursor:
                headers["RunLake-Next-Cursor"] = found.next_cursor
            return "".join(f"{item}\n" for item in found.items).encode() if lines else array(found.items).encode()

        kind = NDJSON if lines else JSON
        try:
            return await self._read(parameters, work, content_type=kind, headers=headers)
        except events.NeedsLake:
            return await self._read(
                parameters,
                lambda snapshot: work(snapshot, with_lake=True),
                content_type=kind,
                headers=headers,
                with_lake=True,
            )

    async def _rollups(self, request: web.Request) -> web.Response:
        parameters = _parameters(request, rollups.PARAMETERS, rollups.REPEATABLE)
        return await self._read(parameters, lambda snapshot: rollups.rollup(snapshot, parameters))

    async def _producers(self, request: web.Request) -> web.Response:
        parameters = _parameters(request, books.PRODUCER_PARAMETERS)
        return await self._read(parameters, lambda snapshot: books.list_producers(snapshot, parameters))

    async def _quarantine(self, request: web.Request) -> web.Response:
        parameters = _parameters(request, books.QUARANTINE_PARAMETERS)
        return await self._read(
            parameters, lambda snapshot: books.list_quarantine(snapshot, parameters), with_lake=True
        )

    async def _read(
        self,
        parameters: Parameters,
        work: Work,
        *,
        content_type: str = JSON,
        headers: dict[str, str] | None = None,
        with_lake: bool = False,
    ) -> web.Response:
        """Answer a read: wait for the position that it asks for, run it, and say what it reflects."""
        wanted = parameters.after()
        if wanted:
            if not await self._progress.wait_for(wanted, self._after_timeout_s):
                raise NotReady(
                    f"after: the position {format_positions(wanted)} was not reached within"
                    f" {self._after_timeout_s:g} s; the read model is at {format_positions(self._progress.positions)}"
                )
        elif not self._progress.state.caught_up:
            raise self._not_ready()

        def answer(snapshot: Snapshot) -> Answer:
            return Answer(work(snapshot), snapshot.positions)

        found = await self._reader.read(answer, with_lake=with_lake)
        return web.Response(
            body=found.body,
            content_type=content_type,
            charset="utf-8",
            headers={
                "RunLake-Position": format_positions(found.positions),
                "RunLake-Lag-Ms": str(self._progress.lag_ms()),
                **(headers or {}),
            },
        )

    def _not_ready(self) -> NotReady:
        state = self._progress.state
        lag_ms = self._progress.lag_ms()
        reason = state.reason or "It is being built from the lake."
        return NotReady(f"The read model has not caught up yet ({lag_ms} ms so far). {reason}")

    @web.middleware
    async def _problems(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Problem as problem:
            return self._problem(problem)
        except web.HTTPNotFound:
            return self._problem(Problem(404, f"There is nothing at {request.path}."))
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            detail = f"{request.method} is not allowed at {request.path}; allowed: {allowed}."
            return self._problem(Problem(405, detail, headers={"Allow": allowed}))
        except web.HTTPException as error:
            return self._problem(Problem(error.status, error.reason))
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
        if problem.status == 503:
            headers = {**headers, "RunLake-Lag-Ms": str(self._progress.lag_ms())}
        return web.Response(status=problem.status, body=problem.body(), content_type=CONTENT_TYPE, headers=headers)


def _parameters(request: web.Request, known: Iterable[str] = (), repeatable: Iterable[str] = ()) -> Parameters:
    return Parameters(request.query.items(), known, repeatable)


def _json(value: Any) -> web.Response:
    return web.Response(body=encode(value), content_type=JSON, charset="utf-8")
