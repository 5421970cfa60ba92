"""Long exports as they leave: stretch by stretch, from one state of the read model, whatever client and disk do."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from runlake.logs import Log
from runlake_query import exports, runs
from runlake_query.exportparts import Parts
from runlake_query.exportsender import ExportSender
from runlake_query.exportwriter import Part
from runlake_query.formats import CSV, NDJSON, PARQUET, Format
from runlake_query.parameters import Parameters
from runlake_query.problems import CONTENT_TYPE, Problem
from runlake_query.reader import GivenUp
from support.lakes import LakeWriter, Worker, at
from support.models import Model
from support.tables import pq

RUNS = 60
STRETCH = 7
FULL = Path("/dev/full")


class Exporting:
    """A server that exports all runs of a read model."""

    def __init__(self, lake: LakeWriter, folder: Path, free: Callable[[], int]) -> None:
        self.worker = Worker()
        self.lake = lake
        for number in range(RUNS):
            self.worker.start(f"r-{number:02}", UUID(int=number + 1), start_time=at(number), error_details="x" * 60_000)
        lake.flush(self.worker)
        self.folder = folder / "exports"
        self.folder.mkdir()
        self.log = io.StringIO()
        self.model = Model(lake, folder / "model")
        self.free = free

    async def serve(self, request: web.Request) -> web.StreamResponse:
        kind = {"csv": CSV, "ndjson": NDJSON, "parquet": PARQUET}[request.query["format"]]
        wanted = partial(exports.runs_rows, Parameters((), runs.LIST_PARAMETERS, runs.LIST_REPEATABLE), kind)
        try:
            return await self.sender.send(request, wanted, kind, lambda _: {"Content-Type": kind.content_type})
        except Problem as problem:
            return web.Response(status=problem.status, body=problem.body(), content_type=CONTENT_TYPE)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[TestClient[Any, Any]]:
        with self.model as model:
            await asyncio.to_thread(model.caught_up, self.worker)
            self.sender = ExportSender(model.reader, self.folder, Log("query", stream=self.log), STRETCH, self.free)
            app = web.Application()
            app.router.add_get("/", self.serve)
            async with TestClient(TestServer(app)) as client:
                yield client

    async def is_clean(self) -> None:
        """Nothing is left in the folder, soon."""
        async with asyncio.timeout(30):
            while [path for path in self.folder.iterdir() if not path.is_symlink()]:
                await asyncio.sleep(0.01)


@pytest.fixture
def exporting(lake: LakeWriter, tmp_path: Path) -> Callable[[Callable[[], int]], Exporting]:
    return partial(Exporting, lake, tmp_path)


def names(kind: Format, body: bytes) -> list[str]:
    text = body.decode()
    rows = csv.DictReader(io.StringIO(text)) if kind is CSV else map(json.loads, text.splitlines())
    return [row["run_id"] for row in rows]


def plenty() -> int:
    return 2**40


NEWEST_FIRST = [f"r-{number:02}" for number in reversed(range(RUNS))]


@pytest.mark.parametrize("kind", [CSV, NDJSON])
async def test_rows_come_in_order_and_their_number_before_them(
    exporting: Callable[[Callable[[], int]], Exporting], kind: Format
) -> None:
    site = exporting(plenty)
    async with site.client() as client:
        response = await client.get("/", params={"format": kind.name})
        assert response.headers["RunLake-Rows"] == str(RUNS)
        assert "Content-Length" not in response.headers, "it is sent before all is written"
        assert names(kind, await response.read()) == NEWEST_FIRST
        await site.is_clean()


async def test_parquet_comes_when_it_is_complete(exporting: Callable[[Callable[[], int]], Exporting]) -> None:
    site = exporting(plenty)
    async with site.client() as client:
        response = await client.get("/", params={"format": "parquet"})
        body = await response.read()
        assert response.headers["RunLake-Rows"] == str(RUNS)
        assert response.headers["Content-Length"] == str(len(body))
        assert pq.read_table(io.BytesIO(body)).column("run_id").to_pylist() == NEWEST_FIRST
        await site.is_clean()


async def test_a_client_that_waits_gets_the_state_of_the_beginning_from_a_disk_that_is_nearly_full(
    exporting: Callable[[Callable[[], int]], Exporting],
) -> None:
    asked = threading.Event()

    def none_left() -> int:
        asked.set()
        return 0

    site = exporting(none_left)
    async with site.client() as client:
        response = await client.get("/", params={"format": "ndjson"})
        await asyncio.to_thread(asked.wait, 30)
        site.worker.start("later", UUID(int=999), start_time=at(999))
        site.lake.flush(site.worker)
        await asyncio.to_thread(site.model.caught_up, site.worker)
        assert names(NDJSON, await response.read()) == NEWEST_FIRST
        assert len(site.model.shown()) == RUNS + 1
        await site.is_clean()


async def test_parts_wait_for_the_client_when_they_fill_half_of_the_disk(tmp_path: Path) -> None:
    told = list[str]()
    parts = Parts(lambda: 100)
    files = [tmp_path / f"{number}" for number in range(4)]

    def write() -> None:
        for file in files:
            file.write_bytes(b"x" * 60)
            told.append(f"wrote {file.name}")
            parts.put(Part(file, 1, 60))

    writing = asyncio.ensure_future(asyncio.to_thread(write))
    writing.add_done_callback(parts.ended)
    first = await parts.take(writing)
    second = await parts.take(writing)
    assert first is not None and second is not None
    told.append("sent 0")
    parts.sent(first)
    assert (await parts.take(writing)) is not None
    told.append("sent 1")
    parts.sent(second)
    assert (await parts.take(writing)) is not None
    assert told == ["wrote 0", "wrote 1", "sent 0", "wrote 2", "sent 1", "wrote 3"]
    parts.abandon()
    with pytest.raises(GivenUp):
        await parts.take(writing)


async def test_a_client_that_leaves_in_the_midst_ends_the_export(
    exporting: Callable[[Callable[[], int]], Exporting],
) -> None:
    site = exporting(lambda: 0)
    async with site.client() as client:
        async with client.get("/", params={"format": "ndjson"}) as response:
            await response.content.readany()
            response.close()
        await site.is_clean()
        assert await asyncio.wait_for(site.model.reader.read(lambda _: "free"), 30) == "free"
        assert site.log.getvalue() == ""


@pytest.mark.parametrize("kind", [CSV, PARQUET])
async def test_a_disk_that_is_full_at_the_start_is_an_answer_that_says_so(
    exporting: Callable[[Callable[[], int]], Exporting], kind: Format
) -> None:
    site = exporting(plenty)
    (site.folder / "1.0").symlink_to(FULL)
    async with site.client() as client:
        response = await client.get("/", params={"format": kind.name})
        assert response.status == 503
        assert "has no room for this export" in (await response.json())["detail"]
        await site.is_clean()
        assert (await client.get("/", params={"format": kind.name})).status == 200, "there is room again"


async def test_a_parquet_file_takes_no_more_than_half_of_the_disk(
    exporting: Callable[[Callable[[], int]], Exporting],
) -> None:
    site = exporting(lambda: 10_000)
    async with site.client() as client:
        response = await client.get("/", params={"format": "parquet"})
        assert response.status == 503
        assert "has no room for this export" in (await response.json())["detail"]
        await site.is_clean()


async def test_an_export_that_fails_in_the_midst_is_broken_off_and_logged(
    exporting: Callable[[Callable[[], int]], Exporting],
) -> None:
    site = exporting(plenty)
    (site.folder / "1.4").symlink_to(FULL)
    async with site.client() as client:
        response = await client.get("/", params={"format": "csv"})
        assert response.status == 200
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
            await response.read()
        assert '"export_broken_off"' in site.log.getvalue()
        assert "has no room for this export" in site.log.getvalue()
        await site.is_clean()
