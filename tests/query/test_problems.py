"""Every way in which a request is refused: one shape, the right status, and words that name the fault."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from support.api import Api, Reply, Start
from support.lakes import LakeWriter, Worker
from support.processes import Site

LISTS = ("/api/v1/runs", "/api/v1/rollups")
UUID_1 = "00000000-0000-4000-8000-000000000001"

BAD_PARAMETERS: list[tuple[str, str, str]] = [
    *[
        (path, query, says)
        for path in LISTS
        for query, says in (
            ("agnet_name=x", "agnet_name: there is no such parameter here; did you mean 'agent_name'?"),
            ("status=sucess", "status: 'sucess' is not known; did you mean 'success'?"),
            ("start_time_from=yesterday", "start_time_from: must be an RFC 3339 time"),
            ("start_time_to=2026-01-28T10:30:00", "start_time_to: must be an RFC 3339 time with a zone"),
            ("created_after=2026-13-01T00:00:00Z", "created_after: must be"),
            ("created_before=0001-01-01T00:00:00%2B23:00", "created_before: must be"),
            ("min_duration_ms=-1", "min_duration_ms: must be a whole number of at least 0"),
            ("max_duration_ms=1.5", "max_duration_ms: must be a whole number"),
            ("max_duration_ms=99999999999999999999", "max_duration_ms: must be a whole number"),
            ("root=maybe", "root: must be true or false"),
            ("root=true&root=false", "root: must be given once"),
            ("after=7", "after: must be <worker>:<seq>"),
            (f"after={UUID_1}:-1", "after: must be <worker>:<seq>"),
            ("after=nobody:1", "after: must be <worker>:<seq>"),
            ("limit=0", "limit: must be a whole number from 1"),
            ("limit=many", "limit: must be a whole number from 1"),
        )
    ],
    ("/api/v1/runs", "limit=1001", "limit: must be a whole number from 1 to 1,000"),
    ("/api/v1/runs", "offset=-1", "offset: must be a whole number"),
    ("/api/v1/runs", "cursor=x", "cursor: must be the next_cursor of an earlier answer"),
    ("/api/v1/runs", "cursor=%C3%A9", "cursor: must be"),
    ("/api/v1/runs", "group_by=status", "group_by: there is no such parameter here"),
    ("/api/v1/runs/x", "limit=1", "limit: there is no such parameter here"),
    ("/api/v1/runs/x/events", "limit=0", "limit: must be"),
    ("/api/v1/runs/x/events", "cursor=gA", "cursor: must be"),
    ("/api/v1/runs/x/events", "typ=1", "typ: there is no such parameter here; did you mean 'type'?"),
    ("/api/v1/rollups", "group_by=agent", "group_by: 'agent' is not known; did you mean 'agent_name'?"),
    ("/api/v1/rollups", "group_by=agent_name,job_type,status,product,host", "group_by: must name at most 4"),
    ("/api/v1/rollups", "group_by=run_id;DROP", "group_by: 'run_id;DROP' is not known"),
    ("/api/v1/rollups", "bucket=hours", "bucket: 'hours' is not known; did you mean 'hour'?"),
    ("/api/v1/rollups", "tz=Europe/Berln", "tz: 'Europe/Berln' is no IANA time zone; did you mean 'Europe/Berlin'?"),
    ("/api/v1/rollups", "tz=CE5T'", "tz: "),
    ("/api/v1/rollups", "tz=localtime", "tz: 'localtime' is no IANA time zone"),
    ("/api/v1/rollups", "measures=p96_duration_ms", "measures: 'p96_duration_ms' is not known; did you mean"),
    ("/api/v1/rollups", "order_by=-host", "order_by: 'host' is not known"),
    ("/api/v1/rollups", "limit=1001", "limit: must be a whole number from 1 to 1,000"),
    ("/api/v1/rollups", "bucket=minute&start_time_from=2020-01-01T00:00:00Z&start_time_to=2026-01-01T00:00:00Z",
     "bucket: 'minute' makes more than 10,000 buckets"),
    ("/api/v1/rollups", "bucket=day&start_time_from=2026-01-02T00:00:00Z&start_time_to=2026-01-01T00:00:00Z",
     "start_time_to: must be after start_time_from"),
    ("/api/v1/producers", "cursor=x", "cursor: there is no such parameter here"),
    ("/api/v1/quarantine", "limit=x", "limit: must be"),
    ("/api/v1/quarantine", "cursor=x", "cursor: must be"),
    ("/health", "x=1", "x: there is no such parameter here"),
    ("/ready", "x=1", "x: there is no such parameter here"),
]  # fmt: skip


def problem(reply: Reply, status: int, title: str) -> dict[str, Any]:
    """The body of a refusal, once its shape is right."""
    assert reply.status == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = reply.json
    assert body.keys() - {"errors"} == {"type", "title", "status", "detail"}
    assert (body["type"], body["title"], body["status"]) == ("about:blank", title, status)
    assert "Traceback" not in reply.text
    return body


@pytest.mark.parametrize(("path", "query", "says"), BAD_PARAMETERS)
def test_a_wrong_parameter_is_400_and_named(api: Api, path: str, query: str, says: str) -> None:
    body = problem(api.get(f"{path}?{query}"), 400, "Bad Request")
    assert body["detail"].startswith(says)
    (error,) = body["errors"]
    assert body["detail"] == f"{error['field']}: {error['message']}"


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/nothing", "/api/v2/runs", "/api/v1/runs/", "/api/v1/runs/a/b"])
def test_an_unknown_path_is_404(api: Api, path: str) -> None:
    assert problem(api.get(path), 404, "Not Found")["detail"] == f"There is nothing at {path}."


@pytest.mark.parametrize("path", ["/api/v1/runs/nobody", "/api/v1/runs/nobody/events"])
def test_an_unknown_run_is_404(api: Api, path: str) -> None:
    assert problem(api.get(path), 404, "Not Found")["detail"] == "Run not found: nobody"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_wrong_method_is_405_and_the_right_ones_are_told(api: Api, method: str) -> None:
    reply = api.request(method, "/api/v1/rollups")
    body = problem(reply, 405, "Method Not Allowed")
    assert reply.headers["allow"] == "GET, HEAD"
    assert body["detail"].startswith(f"{method} is not allowed at /api/v1/rollups")


def test_a_cursor_and_an_offset_exclude_each_other(api: Api) -> None:
    cursor = api.ok("/api/v1/runs", limit=1)["next_cursor"]
    body = problem(api.get("/api/v1/runs", cursor=cursor, offset=1), 400, "Bad Request")
    assert body["errors"][0]["field"] == "offset"


def forged(*values: Any) -> str:
    """A cursor that has the right form and values that no answer ever had."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(values)).rstrip(b"=").decode()


@pytest.mark.parametrize("time", [2**63 - 1, -(2**63), 2**64 - 1])
@pytest.mark.parametrize("number", [-1, 2**63])
def test_a_forged_cursor_is_400(api: Api, time: int, number: int) -> None:
    run = api.ok("/api/v1/runs", limit=1)["runs"][0]["event_id"]
    for path, cursor in (
        ("/api/v1/runs", forged(time, UUID_1)),
        (f"/api/v1/runs/{run}/events", forged(0, UUID_1, number)),
        (f"/api/v1/runs/{run}/events", forged(time, UUID_1, 1)),
        ("/api/v1/quarantine", forged(time, 0)),
        ("/api/v1/quarantine", forged(0, number)),
    ):
        problem(api.get(path, None, cursor=cursor), 400, "Bad Request")


def test_a_parameter_is_not_repeated_without_bound(api: Api) -> None:
    reply = api.get("/api/v1/runs?" + "&".join(["host=h"] * 1001))
    assert problem(reply, 400, "Bad Request")["detail"] == "host: must be given at most 1,000 times"


def test_what_nobody_foresaw_is_500_with_an_id_that_is_in_the_log(lake: LakeWriter, start: Start, site: Site) -> None:
    worker = Worker()
    worker.refuse("p", "no", b"x")
    lake.flush(worker)
    process, api = start()
    for parquet in (site.data / "lake" / "main" / "quarantine").rglob("*.parquet"):
        parquet.unlink()
    body = problem(api.get("/api/v1/quarantine"), 500, "Internal Server Error")
    line = process.wait_for("request_failed")
    assert line["id"] in body["detail"]
    assert str(site.data) not in json.dumps(body)
    assert line["error"].startswith("IOException")
    assert api.get("/api/v1/runs").status == 200


def test_what_is_not_http_is_refused_and_the_process_goes_on(api: Api) -> None:
    assert api.get("/api/v1/runs?" + "x" * 20_000).status == 400
    assert api.get("/health").status == 200
