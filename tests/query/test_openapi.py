"""The OpenAPI document and the server are one: every route and every declared answer is walked, and schemathesis, which
knows nothing but the document, finds nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
import pytest

from runlake_query import schemas
from runlake_query.bodies import MAX_BODY_BYTES
from support.api import Api, Reply
from support.contract import new_run, problem
from support.processes import Process, Site, wait_until
from support.producer import payload, push

TOKEN, READ_TOKEN = "only-for-this-test-0123456789", "reads-of-this-test-0123456789"
JSON = {"Content-Type": "application/json"}
COMMIT = "0123456789abcdef"
STREAM = "/api/v1/stream"
"""It has no end; its own tests read it."""
SQL = "/api/v1/sql"
"""It is off where it is guarded, so that a good token is refused too."""


class World(NamedTuple):
    """One lake and four query processes on it: with ingest, without it, with tokens, and one that has no lake yet."""

    api: Api
    alone: Api
    guarded: Api
    empty: Api
    run: str
    refused: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    site, other = Site(folder), Site(folder / "other")
    nowhere = f"ipc://{folder}/nobody"
    with site.ingest():
        query, url = site.query("--sql", "on")
        alone, alone_url = site.query("--ingest", nowhere, "--read-model", str(folder / "alone"))
        empty, empty_url = other.query("--sql", "on", caught_up=False)
        guarded = Process(
            "runlake_query", "--data", str(site.data), "--http", "127.0.0.1:0", "--ingest", site.ingest_endpoint,
            "--feed", site.feed_endpoint, "--read-model", str(folder / "guarded"),
            env={"RUNLAKE_TOKEN": TOKEN, "RUNLAKE_READ_TOKEN": READ_TOKEN},
        )  # fmt: skip
        guarded_url = f"http://{guarded.wait_for('listening')['http']}"
        guarded.wait_for("caught_up")
        with query, alone, empty, guarded:
            apis = (Api(url), Api(alone_url), Api(guarded_url), Api(empty_url))
            body = new_run(metrics_json={"model": "m", "api_cost_usd": 0.5}, commit_hash=COMMIT)
            wrote = apis[0].post("/api/v1/runs", body)
            assert wrote.status == 201
            assert apis[1].get("/api/v1/runs", after=wrote.headers["runlake-position"]).status == 200
            push(site.push_endpoint, payload([b"\x80"]))
            wait_until(lambda: apis[0].ok("/api/v1/quarantine")["total"] == 1, "a message is refused")
            yield World(*apis, body["event_id"], apis[0].ok("/api/v1/quarantine")["quarantine"][0]["id"])
            for api in apis:
                api.close()


def document(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.api.ok("/openapi.json")
    return found


def request_of(path: str, method: str, operation: dict[str, Any], world: World) -> tuple[str, bytes | None]:
    """A good request for an operation: the document's own example, for a run that is there."""
    body = None
    if "requestBody" in operation:
        example = operation["requestBody"]["content"]["application/json"]["example"]
        if method == "POST" and path.startswith("/api/v1/runs") and "{" not in path:
            example = {"runs": [new_run()]} if "runs" in example else {**example, "event_id": str(uuid4())}
        body = msgspec.json.encode(example)
    return filled(path, world.run, world.run, COMMIT, world.refused), body


def filled(path: str, run_id: str, event_id: str, sha: str, refused: str) -> str:
    """A path with its parameters."""
    values = {"{run_id}": run_id, "{event_id}": event_id, "{sha}": sha, "{id}": refused}
    for name, value in values.items():
        path = path.replace(name, value)
    return path


def head_of(url: str, path: str) -> Reply:
    """The head of an answer that has no end."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return Reply(response.status, {key.lower(): value for key, value in response.getheaders()}, "")
    finally:
        connection.close()


def provoke(world: World, method: str, path: str, operation: dict[str, Any], status: str) -> Reply | None:
    """What makes this route answer this; None for what no request can provoke."""
    good, body = request_of(path, method, operation, world)
    headers = JSON if body is not None else {}
    nobody = filled(path, "nobody", str(uuid4()), "f" * 40, "f" * 32)
    match status:
        case "200" if method == "POST" and "batch" in path:
            return world.api.post(good, [new_run()])
        case "200" if path == STREAM:
            return head_of(world.api.url, good)
        case "200" | "201":
            return world.api.request(method, good, headers, body)
        case "304":
            return world.api.get(good, {"If-None-Match": world.api.get(good).headers["etag"]})
        case "400":
            return world.api.request(method, f"{good}?no_such=1", headers, body)
        case "401":
            return world.guarded.request(method, good, headers, body)
        case "403":
            return world.guarded.request(method, good, {**headers, "Authorization": f"Bearer {READ_TOKEN}"}, body)
        case "404":
            return world.api.request(method, nobody, headers, body)
        case "413":
            return world.api.request(method, good, headers, b'"' + b"x" * MAX_BODY_BYTES + b'"')
        case "415":
            return world.api.request(method, good, {"Content-Type": "text/plain"}, body)
        case "503" if body is not None and path != SQL:
            return world.alone.request(method, good, headers, body)
        case "503" if path == "/metrics":
            return world.empty.get(path, {"Accept": "application/json"})
        case "503":
            return world.empty.request(method, good, headers, body)
    return None


def test_every_route_gives_every_answer_that_is_declared_and_in_the_declared_shape(world: World) -> None:
    provoked = 0
    for path, operations in document(world)["paths"].items():
        for name, operation in operations.items():
            for status, declared in operation["responses"].items():
                where = f"{name.upper()} {path} {status}"
                reply = provoke(world, name.upper(), path, operation, status)
                if status == "default":
                    assert reply is None
                    continue
                assert reply is not None, where
                assert str(reply.status) == status, f"{where}: {reply.status} {reply.text[:300]}"
                provoked += 1
                if "content" in declared:
                    assert reply.headers["content-type"].partition(";")[0] in declared["content"], where
                if reply.status >= 400:
                    problem(reply, reply.status)
                for header, told in declared.get("headers", {}).items():
                    assert header.lower() in reply.headers or not told.get("required"), where
    assert provoked > 80


def test_the_document_names_every_route_that_serves(world: World) -> None:
    paths = document(world)["paths"]
    assert {"/api/v1/runs", "/api/v1/runs/batch", "/api/v1/runs/{run_id}/associate-commit", "/metrics"} <= set(paths)
    for path, operations in paths.items():
        reply = world.api.request("DELETE", filled(path, "x", "x", "x", "x"))
        allowed = set(problem(reply, 405) and reply.headers["allow"].split(", "))
        assert {name.upper() for name in operations} <= allowed


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/api/v1/runs", schemas.RunList),
        ("/api/v1/rollups?measures=runs,avg_duration_ms,last_start_time", schemas.Rollup),
        ("/api/v1/producers", schemas.ProducerList), ("/api/v1/quarantine", schemas.Quarantine),
        ("/api/v1/prices", schemas.PriceTable),
        ("/api/v1/metadata", schemas.Metadata), ("/ready", schemas.Ready), ("/health", schemas.Health),
    ],
)  # fmt: skip
def test_answers_are_of_the_types_that_the_document_is_made_from(world: World, path: str, shape: type) -> None:
    msgspec.json.decode(world.api.get(path).text, type=shape)


def test_schemathesis_finds_nothing(world: World, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{world.api.url}/openapi.json",
            "--seed", "1", "--max-examples", "20", "--phases", "examples,coverage,fuzzing", "--no-color",
            "--exclude-path", STREAM,
            "--checks", ",".join(CHECKS), "--generation-database", "none", "--request-timeout", "30",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
"""Not those that hold what is accepted against the schema: times and maps have rules that JSON Schema cannot say."""
