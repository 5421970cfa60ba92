"""Whose client leaves is ended: its read is interrupted, and its thread is free for others."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, web

from runlake.logs import Log
from runlake_query.copies import Copies
from runlake_query.folder import Folder
from runlake_query.model import open_model
from runlake_query.reader import Reader, Snapshot
from runlake_query.runner import ProblemRunner

ENDLESS = "SELECT count(*) FROM range(10000000) AS a(x), range(10000000) AS b(y) WHERE (x * y) % 7 = 3"


async def test_a_heavy_read_whose_client_has_left_frees_its_thread(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    model = open_model(folder, datetime(2026, 1, 1, tzinfo=UTC), Log("query", stream=io.StringIO()))
    reader = Reader(model, Copies(folder, model.cursor()), threads=1, deadline_s=600)
    begun = asyncio.Event()

    async def heavy(_: web.Request) -> web.Response:
        begun.set()
        return web.json_response(await reader.read(lambda snapshot: snapshot.one(ENDLESS)))

    async def quick(_: web.Request) -> web.Response:
        def answer(snapshot: Snapshot) -> int:
            return int(snapshot.one("SELECT 42")[0])

        return web.json_response(await reader.read(answer))

    app = web.Application()
    app.router.add_get("/heavy", heavy)
    app.router.add_get("/quick", quick)
    runner = ProblemRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    _, leaver = await asyncio.open_connection("127.0.0.1", port)
    leaver.write(b"GET /heavy HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.wait_for(begun.wait(), 30)
    leaver.close()
    await leaver.wait_closed()
    async with (
        ClientSession(timeout=ClientTimeout(30)) as session,
        session.get(f"http://127.0.0.1:{port}/quick") as answer,
    ):
        assert await answer.json() == 42
    await runner.cleanup()
    await asyncio.to_thread(reader.close)
    model.close()
    folder.close()
