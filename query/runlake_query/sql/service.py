"""`POST /api/v1/sql`: one SELECT over the views `runs` and `events`."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from runlake_query.answers import JSON, json_answer
from runlake_query.connected import while_connected
from runlake_query.files import send_file
from runlake_query.formats import ARROW, CSV, NDJSON, PARQUET, Format
from runlake_query.freshness import Freshness
from runlake_query.jsontext import encode
from runlake_query.negotiation import wanted_format
from runlake_query.parameters import Parameters
from runlake_query.positions import Positions, format_positions
from runlake_query.problems import FieldError, Problem
from runlake_query.progress import Progress
from runlake_query.sql.extracts import Extracts, Files
from runlake_query.sql.messages import Ask, Column, Scalar, Told
from runlake_query.sql.sandboxes import Sandboxes, SandboxLost

FORMATS = (CSV, NDJSON, PARQUET, ARROW)
PARAMETERS = ("format", "after")
MAX_ROWS = 1_000_000
DEFAULT_ROWS = 10_000
MAX_RESULT_BYTES = 32 * 1024 * 1024
"""How large a result may be, as JSON."""
_SWEEP_EVERY_S = 60.0


class Statement(Struct, frozen=True, kw_only=True):
    """One SELECT. `parameters` are bound: a list to `?` or `$1`, an object to `$name`."""

    sql: Annotated[str, Meta(min_length=1, max_length=100_000)]
    parameters: list[Scalar] | dict[str, Scalar] = []
    limit: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = DEFAULT_ROWS
    """How many rows at most."""


class SqlResult(Struct):
    """What a statement gave. `truncated`: there were more rows than `limit`, or than fit into a result."""

    columns: list[Column]
    rows: list[dict[str, Any]]
    truncated: bool
    position: str


class SqlIsOff(Problem):
    """403: it has to be enabled first."""

    def __init__(self) -> None:
        super().__init__(403, "SQL is off here. Whoever runs this query process enables it with RUNLAKE_SQL=on.")


class StatementRefused(Problem):
    """400: mend the statement."""

    def __init__(self, detail: str, field: str = "sql") -> None:
        super().__init__(400, f"{field}: {detail}", [FieldError(field, detail)])


class StatementTooSlow(Problem):
    """503: ask for less."""

    def __init__(self, deadline_s: float) -> None:
        super().__init__(
            503,
            f"The statement took longer than {deadline_s:g} s, and was ended. Ask for less: a shorter range of time,"
            " fewer columns, no join that multiplies rows.",
            headers={"Retry-After": "10"},
        )


class Sql:
    """The handler, and the owner of the processes and files behind it. On the event loop."""

    def __init__(
        self,
        extracts: Extracts,
        sandboxes: Sandboxes,
        folder: Path,
        freshness: Freshness,
        progress: Progress,
        acknowledged: Callable[[], Positions],
        *,
        enabled: bool,
    ) -> None:
        self._extracts = extracts
        self._sandboxes = sandboxes
        self._folder = folder
        self._freshness = freshness
        self._progress = progress
        self._acknowledged = acknowledged
        self._enabled = enabled
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with an empty folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._enabled:
            (self._folder / "work").mkdir(parents=True, mode=0o700)
            self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """End the processes, and remove the files."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        await self._sandboxes.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def sql(self, request: web.Request) -> web.StreamResponse:
        """`POST /api/v1/sql`"""
        parameters = Parameters(request.query.items(), PARAMETERS)
        if not self._enabled:
            raise SqlIsOff
        kind = wanted_format(request, FORMATS)
        if kind is ARROW and find_spec("pyarrow") is None:
            raise StatementRefused("arrow needs the package pyarrow beside the query process; it is missing", "format")
        statement = await _statement(request)
        await self._freshness.before_read(parameters.after())
        wanted = {**self._acknowledged()}
        for worker, seq in parameters.after().items():
            wanted[worker] = max(wanted.get(worker, 0), seq)
        async with self._sandboxes.work_folder() as folder:
            async with self._extracts.lend(wanted) as files:
                told = await while_connected(request, self._run(statement, files, kind, folder))
            _raise_for(told, self._sandboxes.bounds.deadline_s)
            return await self._answer(request, told, files.positions, kind, folder / "result")

    async def _run(self, statement: Statement, files: Files, kind: Format | None, folder: Path) -> Told:
        bounds = self._sandboxes.bounds
        ask = Ask(
            sql=statement.sql,
            parameters=statement.parameters,
            runs=str(files.runs),
            recent=str(files.recent),
            events=files.events,
            deletes=files.deletes,
            positions=files.lake_positions,
            folder=str(folder),
            format=kind.name if kind else "json",
            max_rows=statement.limit,
            max_bytes=MAX_RESULT_BYTES,
            memory_mib=bounds.memory_mib,
            spill_mib=bounds.spill_mib,
            threads=bounds.threads,
            deadline_s=bounds.deadline_s,
        )
        try:
            return await self._sandboxes.run(ask)
        except SandboxLost as error:
            return Told(outcome="failed", detail=str(error))

    async def _answer(
        self, request: web.Request, told: Told, positions: Positions, kind: Format | None, result: Path
    ) -> web.StreamResponse:
        position = format_positions(positions)
        headers = {
            "RunLake-Position": position,
            "RunLake-Lag-Ms": str(self._progress.lag_ms()),
            "RunLake-Rows": str(told.rows),
            "RunLake-Truncated": "true" if told.truncated else "false",
        }
        if kind is not None:
            return await send_file(request, result, {**headers, "Content-Type": kind.content_type})
        rows = await asyncio.to_thread(result.read_bytes)
        body = b'{"columns":%b,"rows":%b,"truncated":%b,"position":%b}' % (
            encode(told.columns),
            rows.strip(),
            encode(told.truncated),
            encode(position),
        )
        return json_answer(body, headers=headers)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            if await self._extracts.sweep():
                await self._sandboxes.close_idle()


def default_threads() -> int:
    """How many threads a statement has: a quarter of the machine, at least one."""
    return max(1, (os.cpu_count() or 1) // 4)


async def _statement(request: web.Request) -> Statement:
    if request.content_type != JSON:
        raise Problem(415, f"Content-Type: must be {JSON}, not {request.content_type!r:.60}", headers={"Accept": JSON})
    try:
        return msgspec.json.decode(await request.read(), type=Statement)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise StatementRefused(message, path.strip(".`") or "sql") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StatementRefused(f"The body is no JSON: {error}", "body") from None


def _raise_for(told: Told, deadline_s: float) -> None:
    match told.outcome:
        case "too_slow":
            raise StatementTooSlow(deadline_s)
        case "refused" | "failed":
            raise StatementRefused(told.detail)
