"""The error contract: every way in which a request is refused, in one table.

What a table of requests to one process cannot show is elsewhere: 429 and the 503 of writes below, 401 and 403 in
tests/query/test_auth.py, 421 in test_hosts.py, 500 in test_problems.py.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from support.api import Api, Reply
from support.contract import new_run, problem
from support.processes import Site, wait_until

JSON = {"Content-Type": "application/json"}
PLAIN = {"Content-Type": "text/plain"}
REQUIRED = ("event_id", "run_id", "agent_name", "job_type", "start_time")
RUN = new_run()
HERE = "{run}"
"""Stands for the event_id of a run that is there."""


class Case(NamedTuple):
    method: str
    path: str
    body: Any
    status: int
    says: str
    headers: dict[str, str] = JSON


def post(path: str, body: Any, status: int, says: str, headers: dict[str, str] = JSON) -> Case:
    return Case("POST", path, body, status, says, headers)


def keyed(key: str) -> dict[str, str]:
    return {**JSON, "Idempotency-Key": key}


def wrong_run(says: str, **fields: Any) -> Case:
    return post("/api/v1/runs", {name: value for name, value in (RUN | fields).items() if value is not ...}, 400, says)


DEEP = '{"a":' * 40 + "1" + "}" * 40
CASES = [
    # unknown paths and wrong methods
    Case("GET", "/nothing", None, 404, "There is nothing at /nothing."),
    Case("GET", "/api/v1/nothing", None, 404, "There is nothing at /api/v1/nothing."),
    Case("POST", "/api/v1/nothing", RUN, 404, "There is nothing"),
    Case("GET", "/api/v1/runs/", None, 404, "There is nothing at /api/v1/runs/."),
    Case("PUT", "/api/v1/runs", RUN, 405, "PUT is not allowed at /api/v1/runs; allowed: GET, HEAD, POST."),
    Case("DELETE", "/api/v1/runs/x", None, 405, "DELETE is not allowed"),
    Case("POST", "/api/v1/rollups", {}, 405, "POST is not allowed"),
    Case("OPTIONS", "/api/v1/runs", None, 405, "OPTIONS is not allowed"),
    Case("GET", "/api/v1/runs/x/associate-commit", None, 405, "GET is not allowed"),
    # bodies that are no JSON, or not the right JSON
    post("/api/v1/runs", "", 400, "The body is not JSON"),
    post("/api/v1/runs", "{", 400, "The body is not JSON"),
    post("/api/v1/runs", '{"event_id": NaN}', 400, "The body is not JSON"),
    post("/api/v1/runs", b'{"run_id": "\xff"}', 400, "The body"),
    post("/api/v1/runs", '{"run_id": "\\ud800"}', 400, "The body is not JSON"),
    post("/api/v1/runs", "[]", 400, "The body must be a JSON object."),
    post("/api/v1/runs", "null", 400, "The body must be a JSON object."),
    post("/api/v1/runs", '"x"', 400, "The body must be a JSON object."),
    post("/api/v1/runs", "[" * 100_000, 400, "The body"),
    post("/api/v1/runs", RUN, 415, "Content-Type: must be application/json, not 'text/plain'", PLAIN),
    post("/api/v1/runs", "a=b", 415, "Content-Type", {"Content-Type": "application/x-www-form-urlencoded"}),
    post("/api/v1/runs", RUN, 415, "Content-Type: must be application/json, not ''", {}),
    post("/api/v1/runs", {**RUN, "input_summary": "x" * 17_000_000}, 413, "The body is too large"),
    post("/api/v1/runs", {**RUN, "context_json": {"x": "y" * 1_100_000}}, 413, "The body has"),
    # fields of a run
    *(wrong_run(f"{name}: is required", **{name: ...}) for name in REQUIRED),
    wrong_run("event_id: expected", event_id=None),
    wrong_run("event_id: invalid UUID", event_id="x"),
    wrong_run("run_id: expected `str`", run_id=7),
    wrong_run("run_id: expected `str` of length >= 1", run_id=""),
    wrong_run("run_id: expected `str` of length <= 1024", run_id="x" * 1025),
    wrong_run("start_time: expected `datetime` with a timezone", start_time="2026-01-28T10:30:00"),
    wrong_run("start_time: ", start_time="yesterday"),
    wrong_run("start_time: ", start_time=1_769_596_200),
    wrong_run("start_time: must not be before 1970", start_time="1969-12-31T23:59:59Z"),
    wrong_run("start_time: must not be more than 24 hours ahead", start_time="2999-01-01T00:00:00Z"),
    wrong_run("end_time: ", end_time="2026-13-01T00:00:00Z"),
    wrong_run("status: invalid enum value 'done'", status="done"),
    wrong_run("items_failed: expected `int` >= 0", items_failed=-1),
    wrong_run("items_failed: expected `int", items_failed="3"),
    wrong_run("items_failed: expected `int", items_failed=1.5),
    wrong_run("duration_ms: ", duration_ms=2**63),
    wrong_run("input_summary: expected `str` of length <= 65536", input_summary="x" * 65_537),
    wrong_run("cost_usd: must be a number of dollars", cost_usd=-1),
    wrong_run("cost_usd: must be a number of dollars", cost_usd=10**9),
    wrong_run("metrics_json: expected `object", metrics_json=[1]),
    wrong_run("metrics_json: expected `object", metrics_json="{}"),
    wrong_run("metrics_json: holds a number that does not fit 64 bits", metrics_json={"x": 2**70}),
    wrong_run("context_json: must hold at most 10,000 values", context_json={"x": [0] * 10_001}),
    wrong_run("commit_hash: ", commit_hash="no hash"),
    wrong_run("git_commit_source: invalid enum value 'x'", git_commit_source="x"),
    wrong_run("context_json: must be at most 32 levels deep", context_json=json.loads(DEEP)),
    # changes
    Case("PATCH", f"/api/v1/runs/{HERE}", {"run_id": "other"}, 400, "run_id: is what the run was created with"),
    Case("PATCH", f"/api/v1/runs/{HERE}", {"status": "failed"}, 400, "status: invalid enum value 'failed'"),
    Case("PATCH", f"/api/v1/runs/{HERE}", {"items_failed": -1}, 400, "items_failed: "),
    Case("PATCH", f"/api/v1/runs/{HERE}", {"end_time": "2999-01-01T00:00:00Z"}, 400, "end_time: must not be"),
    Case("PATCH", f"/api/v1/runs/{HERE}", "{", 400, "The body is not JSON"),
    Case("PATCH", f"/api/v1/runs/{HERE}", {}, 415, "Content-Type", PLAIN),
    Case("PATCH", f"/api/v1/runs/{HERE}", {"status": "success"}, 400, "Idempotency-Key: must be a UUID", keyed("x")),
    Case("PATCH", f"/api/v1/runs/{HERE}", {"status": "success"}, 400, "Idempotency-Key: is a UUIDv7 of more than 24",
         keyed("7fffffff-ffff-7fff-bfff-ffffffffffff")),
    Case("PATCH", "/api/v1/runs/nobody", {"status": "success"}, 404, "Run not found: nobody"),
    Case("PATCH", "/api/v1/runs/4d6c1f0e-62a4-4b07-9c41-6a1c7a4be2d1", {"status": "success"}, 404, "Run not found: "),
    Case("PATCH", f"/api/v1/runs/{HERE}?force=1", {}, 400, "force: there is no such parameter here"),
    # commits
    post(f"/api/v1/runs/{HERE}/associate-commit", {"commit_source": "ci"}, 400, "commit_hash: is required"),
    post(f"/api/v1/runs/{HERE}/associate-commit", {"commit_hash": "abcdef0"}, 400, "commit_source: is required"),
    post(f"/api/v1/runs/{HERE}/associate-commit", {"commit_hash": "abc", "commit_source": "ci"}, 400, "commit_hash: "),
    post(f"/api/v1/runs/{HERE}/associate-commit", {"commit_hash": "abcdef0", "commit_source": 1}, 400, "commit_source"),
    post("/api/v1/runs/x/associate-commit", {"commit_hash": "abcdef0", "commit_source": "ci"}, 404, "Run not found: x"),
    # batches
    post("/api/v1/runs/batch", {}, 400, "runs: is required"),
    post("/api/v1/runs/batch", {"runs": 5}, 400, "runs: expected `array`"),
    post("/api/v1/runs/batch", {"runs": []}, 400, "runs: must hold 1 to 1,000, not 0"),
    post("/api/v1/runs/batch", [], 400, "runs: must hold 1 to 1,000, not 0"),
    post("/api/v1/runs/batch", {"runs": [1] * 1_001}, 400, "runs: must hold 1 to 1,000, not 1,001"),
    post("/api/v1/runs/batch", "[1,", 400, "The body is not JSON"),
    post("/api/v1/runs/batch", RUN, 400, "runs: is required"),
    post("/api/v1/runs/batch-transactional", {"runs": [RUN, 7]}, 400, "runs[1]: The body must be a JSON object."),
    post("/api/v1/runs/batch-transactional", {"runs": [{**RUN, "run_id": ""}]}, 400, "runs[0].run_id: "),
    # events
    post(f"/api/v1/runs/{HERE}/events", {}, 400, "type: is required"),
    post(f"/api/v1/runs/{HERE}/events", {"type": "x", "ts": "2026-01-28T10:30:00"}, 400, "ts: "),
    post(f"/api/v1/runs/{HERE}/events", {"type": "x", "ts": "2999-01-01T00:00:00Z"}, 400, "ts: must not be"),
    post(f"/api/v1/runs/{HERE}/events", {"type": "x", "payload": 3}, 400, "payload: expected `object"),
    post(f"/api/v1/runs/{HERE}/events", [{"type": "x"}, {"type": 3}], 400, "[1].type: "),
    post(f"/api/v1/runs/{HERE}/events", [], 400, "events: must hold 1 to 1,000, not 0"),
    post("/api/v1/runs/x/events", {"type": "x"}, 404, "Run not found: x"),
    # parameters
    Case("GET", "/api/v1/runs?statsu=x", None, 400, "statsu: there is no such parameter here; did you mean 'status'?"),
    Case("GET", "/api/v1/runs?limit=0", None, 400, "limit: must be"),
    Case("GET", "/api/v1/runs?limit=1001", None, 400, "limit: must be"),
    Case("GET", "/api/v1/runs?offset=-1", None, 400, "offset: must be"),
    Case("GET", "/api/v1/runs?cursor=x", None, 400, "cursor: must be"),
    Case("GET", "/api/v1/runs?start_time_from=now", None, 400, "start_time_from: must be"),
    Case("GET", "/api/v1/runs?start_time_from=1234567", None, 400, "start_time_from: must be an RFC 3339 time"),
    Case("GET", "/api/v1/runs?start_time_to=1769596200.5", None, 400, "start_time_to: must be an RFC 3339 time"),
    Case("GET", "/api/v1/rollups?created_after=2026-01-28", None, 400, "created_after: must be an RFC 3339 time"),
    Case("GET", "/api/v1/metadata?x=1", None, 400, "x: there is no such parameter here"),
    Case("GET", "/metrics?x=1", None, 400, "x: there is no such parameter here"),
    Case("GET", "/openapi.json?x=1", None, 400, "x: there is no such parameter here"),
    post("/api/v1/runs?dry_run=1", RUN, 400, "dry_run: there is no such parameter here"),
    Case("GET", "/api/v1/runs/nobody", None, 404, "Run not found: nobody"),
    Case("GET", "/api/v1/runs?after=4d6c1f0e-62a4-4b07-9c41-6a1c7a4be2d1:1", None, 503, "after: the position"),
]  # fmt: skip


def send(api: Api, case: Case, run: str) -> Reply:
    path = case.path.replace(HERE, run)
    if isinstance(case.body, str | bytes) or case.body is None:
        return api.request(case.method, path, case.headers if case.body is not None else {}, case.body)
    return api.request(case.method, path, case.headers, json.dumps(case.body))


@pytest.fixture(scope="module")
def run(service: str) -> str:
    api = Api(service)
    body = new_run()
    assert api.post("/api/v1/runs", body).status == 201
    api.close()
    return str(body["event_id"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.method} {case.path} {case.status} {case.says}"[:90])
def test_a_refusal_has_one_shape_the_right_status_and_words_that_name_the_fault(api: Api, run: str, case: Case) -> None:
    reply = send(api, case, run)
    body = problem(reply, case.status)
    assert body["detail"].startswith(case.says), body["detail"]
    named = case.says.partition(":")[0]
    if case.status == 400 and " " not in named:
        assert body["errors"][0]["field"] == named
    if case.status == 503:
        assert int(reply.headers["retry-after"]) >= 1
    if case.status == 405:
        assert reply.headers["allow"]
    problem(api.get(f"/api/v1/runs/{RUN['event_id']}"), 404)  # nothing of it was stored


def test_refused_requests_are_not_quarantined(api: Api) -> None:
    problem(api.post("/api/v1/runs", new_run(run_id="")), 400)
    assert api.ok("/api/v1/quarantine")["total"] == 0


def test_too_many_requests_at_once_are_429_and_say_when_to_try_again(service: str) -> None:
    refused: list[bytes] = []

    def some_are_refused() -> bool:
        answers = at_once(service, "/api/v1/runs?limit=1", 500)
        assert {answer[9:12] for answer in answers} <= {b"200", b"429"}
        refused.extend(answer for answer in answers if answer[9:12] == b"429")
        return bool(refused)

    wait_until(some_are_refused, "more requests than may wait")
    for answer in refused:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\nRetry-After: 1\r\n" in head
        assert b"\r\nContent-Type: application/problem+json" in head
        said = json.loads(body)
        assert (said["type"], said["title"], said["status"]) == ("about:blank", "Too Many Requests", 429)
        assert said["detail"].startswith("Too many requests are waiting")


def at_once(url: str, path: str, connections: int) -> list[bytes]:
    """The answers to one GET on each of so many connections, all of them sent before any is read."""
    address = urlsplit(url)
    request = f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n".encode()
    clients = [
        socket.create_connection((str(address.hostname), int(address.port or 0)), 60) for _ in range(connections)
    ]
    for client in clients:
        client.sendall(request)
    answers = []
    for client in clients:
        with client, client.makefile("rb") as reader:
            answers.append(reader.read())
    return answers


def test_while_ingest_is_away_writes_are_503_and_reads_go_on(tmp_path: Path) -> None:
    site = Site(tmp_path)
    body = new_run()
    with site.ingest() as ingest:
        query, url = site.query()
        with query:
            api = Api(url)
            assert api.post("/api/v1/runs", body).status == 201
            path = f"/api/v1/runs/{body['event_id']}"
            assert api.ok(path)  # so that it is not in the journal alone, which goes with the worker
            ingest.kill()
            query.wait_for("ingest_unreachable")
            for reply in (
                api.post("/api/v1/runs", new_run()),
                api.patch(path, {"status": "success"}),
                api.post(f"{path}/associate-commit", {"commit_hash": "abcdef0", "commit_source": "ci"}),
                api.post(f"{path}/events", {"type": "x"}),
                api.post("/api/v1/runs/batch", {"runs": [new_run()]}),
                api.post("/api/v1/runs/batch-transactional", {"runs": [new_run()]}),
            ):
                assert int(reply.headers["retry-after"]) >= 1
                assert "Nothing was stored; try again." in problem(reply, 503)["detail"]
            assert api.ok(path)["run_id"] == body["run_id"]
            assert api.ok("/api/v1/runs")["total"] == 1
            assert api.post("/api/v1/runs", body).headers["idempotent-replayed"] == "true"
            with site.ingest():
                assert retried(api, new_run()) == 201
            api.close()


def test_an_ack_that_does_not_come_is_503_with_an_unknown_outcome_and_a_retry_is_safe(tmp_path: Path) -> None:
    site = Site(tmp_path)
    body = new_run()
    with site.ingest(crash_at="ack.before") as ingest:
        query, url = site.query()
        with query:
            api = Api(url)
            reply = api.post("/api/v1/runs", body)  # journaled, and the worker dies before its ack
            assert ingest.wait() == -9
            assert "the outcome is unknown" in problem(reply, 503)["detail"]
            with site.ingest():
                assert retried(api, body) == 201
                assert api.ok("/api/v1/runs")["total"] == 1
            api.close()


def test_a_transactional_batch_that_a_crash_cut_short_is_completed_by_its_retry(tmp_path: Path) -> None:
    site = Site(tmp_path)
    runs = {"runs": [new_run() for _ in range(600)]}  # more than one batch on the wire
    with site.ingest(crash_at="ack.before") as ingest:
        query, url = site.query()
        with query:
            api = Api(url)
            reply = api.post("/api/v1/runs/batch-transactional", runs)
            assert ingest.wait() == -9
            assert "the outcome is unknown" in problem(reply, 503)["detail"]
            with site.ingest():
                assert retried(api, runs, "/api/v1/runs/batch-transactional") == 201
                again = api.post("/api/v1/runs/batch-transactional", runs).json
                assert (again["created"], again["existing"], again["failed"]) == (0, 600, 0)
                assert api.ok("/api/v1/runs")["total"] == 600
            api.close()


def retried(api: Api, body: dict[str, Any], path: str = "/api/v1/runs") -> int:
    """The status of a POST that is tried again while it is 503, as Retry-After asks."""
    for _ in range(20):
        reply = api.post(path, body)
        if reply.status != 503:
            return reply.status
    return 503


def test_before_the_first_catch_up_everything_is_503_and_nothing_is_404(tmp_path: Path) -> None:
    site = Site(tmp_path)
    query, url = site.query(caught_up=False)
    with query:
        api = Api(url)
        for reply in (
            api.get("/api/v1/runs"), api.get("/api/v1/runs/x"), api.get("/ready"), api.get("/api/v1/metadata"),
            api.post("/api/v1/runs", new_run()), api.patch(f"/api/v1/runs/{uuid4()}", {"status": "success"}),
        ):  # fmt: skip
            problem(reply, 503)
        assert api.get("/health").status == 200
        api.close()
