"""Exports: all that match, in every format, at one position; and what becomes of clients that are slow or leave."""

from __future__ import annotations

import asyncio
import csv
import io
import socket
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import duckdb
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from runlake.fields import RUN_FIELD_NAMES
from runlake_query import exports, runs
from runlake_query.exportwriter import Part, Rows, cut, join_parquet, write
from runlake_query.files import send_file
from runlake_query.formats import CSV, EXPORTS, NDJSON, PARQUET, Format
from runlake_query.parameters import Parameters
from runlake_query.reader import Snapshot
from support.api import Api, Start
from support.contract import problem
from support.download import download
from support.fleet import Fleet
from support.lakes import LakeWriter, Worker, at
from support.models import Model
from support.processes import Process, Site, wait_until
from support.tables import pq

RUNS, EVENTS, ROLLUPS = "/api/v1/runs", "/api/v1/events", "/api/v1/rollups"
FILTERS: list[dict[str, Any]] = [
    {},
    {"status": ["success", "failed"], "product": "words"},
    {"start_time_from": "2026-03-28T00:00:00Z", "start_time_to": "2026-03-30T00:00:00Z", "min_duration_ms": 1},
    {"q": "straße", "root": "true"},
    {"agent_name": "nobody"},
]


def parameters(*given: tuple[str, str]) -> Parameters:
    return Parameters(given, {*exports.EVENT_PARAMETERS, *runs.LIST_PARAMETERS}, runs.LIST_REPEATABLE)


def by_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: str(row["event_id"]))


@pytest.mark.parametrize("filters", FILTERS)
def test_exported_runs_are_those_of_the_list(api: Api, fleet: Fleet, filters: dict[str, Any]) -> None:
    listed = by_id(api.ok(RUNS, limit=1000, **filters)["runs"])
    lines = download(f"{api.url}{RUNS}", format="ndjson", **filters)
    assert by_id(lines.lines) == listed
    assert lines.headers["runlake-rows"] == str(len(listed))
    assert lines.headers["runlake-position"] == ",".join(sorted(fleet.position.split(",")))
    table = download(f"{api.url}{RUNS}", {"Accept": "text/csv"}, **filters)
    rows = by_id(list(csv.DictReader(io.StringIO(table.body.decode()))))
    assert [row["event_id"] for row in rows] == [run["event_id"] for run in listed]
    assert [row["start_time"] for row in rows] == [run["start_time"] for run in listed]
    assert table.body.decode().splitlines()[0] == ",".join(RUN_FIELD_NAMES)
    parquet = pq.read_table(io.BytesIO(download(f"{api.url}{RUNS}", format="parquet", **filters).body))
    assert tuple(parquet.column_names) == RUN_FIELD_NAMES
    typed = sorted(parquet.select(["run_id", "start_time", "cost_usd"]).to_pylist(), key=str)
    assert typed == sorted(
        (
            {
                "run_id": run["run_id"],
                "start_time": datetime.fromisoformat(run["start_time"]),
                "cost_usd": None
                if run["cost_usd"] is None
                else Decimal(repr(run["cost_usd"])).quantize(Decimal("1e-9")),
            }
            for run in listed
        ),
        key=str,
    )


LONG = 60
SHORT_STRETCH = 7


def tell_much(lake: LakeWriter, workers: Sequence[Worker]) -> None:
    """Runs of which several start together, and events of the same time."""
    for number in range(LONG):
        worker = workers[number % len(workers)]
        key = UUID(int=(number * 7_919 % LONG) + 1)
        run = worker.start(
            f"r-{number}", key, start_time=at(number // 4 / 2), error_summary='a "quoted", text\nof two lines'
        )
        worker.event("x", run, ts=at(number // 5))
        if number % 20 == 19:
            lake.flush(*workers)


def written(snapshot: Snapshot, rows: Rows, path: Path, kind: Format) -> list[Part]:
    conditions, total = cut(snapshot, rows, SHORT_STRETCH)
    parts = list(write(snapshot, rows, conditions, path, kind, nullcontext()))
    assert total in (None, sum(part.rows for part in parts))
    return parts


async def join(parts: list[Part], path: Path, kind: Format) -> None:
    """Make one file of parts, as an answer does."""
    if kind is PARQUET:
        await join_parquet([part.path for part in parts], path, 60)
        return
    path.write_bytes(b"".join(part.path.read_bytes() for part in parts))
    for part in parts:
        part.path.unlink()


@pytest.mark.parametrize("kind", EXPORTS)
async def test_two_read_models_of_one_log_write_the_same_bytes_stretch_by_stretch(
    lake: LakeWriter, tmp_path: Path, kind: Format
) -> None:
    workers = [Worker(), Worker()]
    tell_much(lake, workers)
    made: list[list[bytes]] = []
    for name, span_messages in (("small", 5), ("large", 1_000_000)):
        with Model(lake, tmp_path / name, span_messages=span_messages) as model:
            model.caught_up(*workers)
            if name == "small":
                table = model.model.cursor()  # in another order than it came in
                table.execute("CREATE OR REPLACE TEMP TABLE mixed AS SELECT * FROM runs ORDER BY hash(run_id)")
                table.execute("DELETE FROM runs")
                table.execute("INSERT INTO runs SELECT * FROM mixed")
            made.append([])
            for asked in (exports.runs_rows, exports.events_rows):
                path = tmp_path / f"{name}.{asked.__name__}"

                def work(snapshot: Snapshot, asked: Any = asked, path: Path = path) -> list[Part]:
                    return written(snapshot, asked(parameters(), kind, snapshot), path, kind)

                parts = await model.reader.read(work, with_lake=True)
                assert len(parts) > LONG / SHORT_STRETCH / 2
                assert sum(part.rows for part in parts) == LONG
                await join(parts, path, kind)
                assert [left.name for left in tmp_path.glob(f"{path.name}*")] == [path.name]
                made[-1].append(path.read_bytes())
    assert made[0] == made[1]


async def test_a_long_export_is_cut_into_stretches_of_about_so_many_rows(lake: LakeWriter, tmp_path: Path) -> None:
    worker = Worker()
    tell_much(lake, [worker])
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)

        def work(snapshot: Snapshot) -> None:
            for asked in (exports.runs_rows, exports.events_rows):
                rows = asked(parameters(("agent_name", "agent")), NDJSON, snapshot)
                conditions, total = cut(snapshot, rows, SHORT_STRETCH)
                assert total == LONG
                found = [
                    [row[0] for row in snapshot.rows(f"SELECT event_id::VARCHAR FROM ({rows.query(one)})", rows.values)]
                    for one in conditions
                ]
                assert max(len(part) for part in found) <= SHORT_STRETCH + 4, "so many have the same time"
                whole = snapshot.rows(f"SELECT event_id::VARCHAR FROM ({rows.query('true')})", rows.values)
                assert [event_id for part in found for event_id in part] == [row[0] for row in whole]
                assert len(whole) == LONG

        await model.reader.read(work, with_lake=True)


@pytest.mark.parametrize("kind", EXPORTS)
async def test_a_limit_ends_a_long_export_in_the_midst_of_a_stretch(
    lake: LakeWriter, tmp_path: Path, kind: Format
) -> None:
    worker = Worker()
    tell_much(lake, [worker])
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)

        def work(snapshot: Snapshot, limit: int) -> list[Part]:
            rows = exports.runs_rows(parameters(), kind, snapshot)._replace(limit=limit)
            return written(snapshot, rows, tmp_path / f"{limit}", kind)

        for limit in (5, 17, LONG, 1_000):
            parts = await model.reader.read(partial(work, limit=limit))
            assert sum(part.rows for part in parts) == min(limit, LONG)
            await join(parts, tmp_path / f"{limit}", kind)
    relation = {CSV: "read_csv", NDJSON: "read_json", PARQUET: "read_parquet"}[kind]
    tables = [
        duckdb.sql(f"SELECT run_id FROM {relation}('{tmp_path / str(limit)}')").fetchall() for limit in (5, 17, 1_000)
    ]
    assert tables[2][:17] == tables[1]
    assert tables[1][:5] == tables[0]


async def test_a_join_of_parts_ends_with_who_waits_for_it(tmp_path: Path) -> None:
    part = tmp_path / "file.0"
    duckdb.sql("SELECT i, md5(i::VARCHAR) AS text FROM range(3_000_000) AS t(i)").write_parquet(str(part))
    joining = asyncio.ensure_future(join_parquet([part], tmp_path / "file", 60))
    await asyncio.sleep(0)  # it has begun
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    assert not part.exists()
    part.write_bytes(b"no Parquet")
    with pytest.raises(duckdb.Error):
        await join_parquet([part], tmp_path / "file", 60)
    assert not part.exists()


def test_a_limit_exports_the_newest_runs(api: Api) -> None:
    newest = api.ok(RUNS, limit=5)["runs"]
    assert download(f"{api.url}{RUNS}", format="ndjson", limit=5).lines == newest
    listed = api.ok(RUNS, limit=1000)["runs"]
    assert download(f"{api.url}{RUNS}", format="ndjson", limit=100_001).lines == listed
    assert download(f"{api.url}{RUNS}", format="ndjson").lines == listed, "in the order of the list"
    assert len(download(f"{api.url}{RUNS}", format="ndjson", limit=10**9).lines) == 400


@pytest.mark.parametrize("filters", FILTERS)
def test_exported_events_are_those_of_the_runs_that_match(api: Api, fleet: Fleet, filters: dict[str, Any]) -> None:
    runs = api.ok(RUNS, limit=1000, **filters)["runs"]
    expected = sum(fleet.events[run["event_id"]] for run in runs)
    found = download(f"{api.url}{EVENTS}", **filters)
    assert len(found.lines) == int(found.headers["runlake-rows"]) == expected
    assert len({event["event_id"] for event in found.lines}) == expected


def test_events_are_shown_as_those_of_a_run_and_come_from_the_lake_and_the_read_model(
    lake: LakeWriter, start: Start
) -> None:
    worker = Worker()
    run = worker.start("r", start_time="2020-01-01T00:00:00Z")
    for year in (2020, 2022, 2024):
        worker.event("r", run, ts=f"{year}-01-01T00:00:00Z", type="old" if year < 2024 else "new", payload={"y": year})
    worker.event("r", run)
    lake.flush(worker)
    _, api = start("--recent-days", "700")
    shown = api.ok(f"{RUNS}/{run}/events")
    found = download(f"{api.url}{EVENTS}").lines
    names = shown[0].keys()
    assert by_id([{name: event[name] for name in names} for event in found]) == by_id(shown)
    assert {event["run_event_id"] for event in found} == {str(run)}
    assert len(download(f"{api.url}{EVENTS}", type="old").lines) == 2
    part: dict[str, Any] = {"ts_from": "2022-01-01T00:00:00Z", "ts_to": "2024-01-01T00:00:00Z"}
    assert [event["payload"] for event in download(f"{api.url}{EVENTS}", **part).lines] == [{"y": 2022}]


@pytest.mark.parametrize("asked", [{"group_by": "agent_name,host"}, {"group_by": "status", "bucket": "day"}, {}])
def test_an_exported_rollup_has_the_rows_of_the_rollup(api: Api, asked: dict[str, Any]) -> None:
    body = api.ok(ROLLUPS, limit=1000, **asked)
    found = download(f"{api.url}{ROLLUPS}", format="ndjson", **asked)
    assert found.lines == body["rows"], "in the same order"
    assert len(download(f"{api.url}{ROLLUPS}", format="ndjson", limit=1, **asked).lines) == 1
    parquet = pq.read_table(io.BytesIO(download(f"{api.url}{ROLLUPS}", format="parquet", **asked).body)).to_pylist()
    assert [row["input_tokens"] for row in parquet] == [row["input_tokens"] for row in body["rows"]], "exact"


def test_sums_beyond_64_bits_stay_exact_in_parquet(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    for _ in range(3):
        worker.start("r", input_tokens=2**63 - 1)
    lake.flush(worker)
    _, api = start()
    body = download(f"{api.url}{ROLLUPS}", format="parquet", measures="input_tokens").body
    assert pq.read_table(io.BytesIO(body)).to_pylist() == [{"input_tokens": 3 * (2**63 - 1)}]


def test_json_is_the_page_as_ever_and_every_format_has_its_content_type(api: Api) -> None:
    page = api.get(f"{RUNS}?limit=2").json
    assert api.get(f"{RUNS}?limit=2&format=json", {"Accept": "text/csv"}).json == page
    assert api.get(f"{RUNS}?limit=2", {"Accept": "*/*, text/csv"}).json == page
    types = {"csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson; charset=utf-8",
             "parquet": "application/vnd.apache.parquet"}  # fmt: skip
    for kind, content_type in types.items():
        head = api.request("HEAD", f"{RUNS}?format={kind}")
        assert (head.status, head.headers["content-type"]) == (200, content_type)
        found = download(f"{api.url}{RUNS}", format=kind)
        assert found.headers["content-type"] == content_type
        assert found.headers["content-disposition"] == f'attachment; filename="runs.{kind}"'
        assert int(found.headers["content-length"]) == len(found.body)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (f"{RUNS}?format=xml", "format"), (f"{RUNS}?format=csv&cursor=x", "cursor"),
        (f"{RUNS}?format=csv&offset=1", "offset"), (f"{RUNS}?format=csv&limit=0", "limit"),
        (f"{RUNS}?format=csv&colour=red", "colour"), (f"{EVENTS}?format=json", "format"),
        (f"{EVENTS}?ts_from=now", "ts_from"), (f"{ROLLUPS}?format=csv&group_by=colour", "group_by"),
        (f"{RUNS}?format=csv&status=odd", "status"), (f"{EVENTS}?limit=1", "limit"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_refused_with_its_field(api: Api, path: str, field: str) -> None:
    assert [error["field"] for error in problem(api.get(path), 400)["errors"]] == [field]


def test_an_export_leaves_no_file_behind_whoever_leaves(site: Site, lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    for _ in range(300):
        worker.start("r", error_details="x" * 60_000)
    lake.flush(worker)
    process, api = start()
    folder = site.data / "query" / "exports"
    assert len(download(f"{api.url}{RUNS}", format="ndjson").lines) == 300
    assert not list(folder.iterdir())
    address = urlsplit(api.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0))) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"GET {RUNS}?format=ndjson HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert open_exports(process), "the rest waits in a file without a name"
        assert not list(folder.iterdir())
    wait_until(lambda: not open_exports(process), "the file is closed")


def open_exports(process: Process) -> list[str]:
    links = Path(f"/proc/{process.pid}/fd").iterdir()
    found = []
    for link in links:
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    return [name for name in found if "/exports/" in name]


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 64 * 2**20)
    yield path


async def test_a_client_that_takes_nothing_is_dropped(large: Path) -> None:
    ended: asyncio.Queue[str] = asyncio.Queue()

    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            return await send_file(request, large, {}, stall_s=0.2)
        except ConnectionResetError as error:
            ended.put_nowait(str(error))
            raise

    app = web.Application()
    app.router.add_get("/", serve)
    async with TestClient(TestServer(app)) as client:
        response = await client.get("/")
        assert await asyncio.wait_for(ended.get(), 30) == "the client takes nothing"
        assert not large.exists()
        response.close()


def test_no_more_than_so_many_exports_at_a_time(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    for _ in range(300):
        worker.start("r", error_details="x" * 60_000)
    lake.flush(worker)
    _, api = start()
    address = urlsplit(api.url)
    clients = [socket.create_connection((str(address.hostname), int(address.port or 0))) for _ in range(4)]
    for client in clients:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"GET {RUNS}?format=ndjson HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    refused = api.get(f"{RUNS}?format=ndjson")
    assert problem(refused, 429)
    assert refused.headers["retry-after"]
    assert api.get(RUNS).status == 200, "pages go on"
    for client in clients:
        client.close()
    wait_until(lambda: api.get(f"{RUNS}?format=csv&limit=1").status == 200, "there is room again")
