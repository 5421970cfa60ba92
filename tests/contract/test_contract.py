"""`http-api.md`, its conventions and its first table, line by line, against the two real processes."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest

from runlake.fields import RUN_FIELD_NAMES
from runlake.ids import Uuid7Source
from support.api import Api, Reply
from support.contract import START, new_run, problem


def created(api: Api, **fields: Any) -> dict[str, Any]:
    reply = api.post("/api/v1/runs", new_run(**fields))
    assert reply.status == 201, reply.text
    run: dict[str, Any] = reply.json
    return run


def path_of(run: dict[str, Any], *more: str) -> str:
    return "/".join(("/api/v1/runs", quote(run["event_id"]), *more))


# Conventions


def test_a_run_has_every_field_always_null_where_unset(api: Api) -> None:
    run = created(api)
    assert tuple(run) == RUN_FIELD_NAMES
    assert run["end_time"] is None
    assert tuple(api.ok(path_of(run))) == RUN_FIELD_NAMES


@pytest.mark.parametrize(
    ("sent", "comes_back"),
    [
        ("2026-01-28T10:30:00Z", "2026-01-28T10:30:00Z"),
        ("2026-01-28T10:30:00.000Z", "2026-01-28T10:30:00Z"),
        ("2026-01-28T10:30:00.250Z", "2026-01-28T10:30:00.25Z"),
        ("2026-01-28T12:30:00+02:00", "2026-01-28T10:30:00Z"),
        ("2026-01-28T05:00:00.000001-05:30", "2026-01-28T10:30:00.000001Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    ],
)
def test_times_come_back_in_utc_with_a_fraction_only_when_it_is_not_zero(api: Api, sent: str, comes_back: str) -> None:
    run = created(api, start_time=sent, end_time=sent)
    for shown in (run, api.ok(path_of(run))):
        assert (shown["start_time"], shown["end_time"]) == (comes_back, comes_back)


def test_null_is_absent_and_unknown_fields_are_ignored(api: Api) -> None:
    run = created(api, status=None, product=None, colour="red", kind="x", metrics_json=None)
    assert run["status"] == "running"
    assert api.ok(path_of(run)) == run


def test_every_read_says_what_it_reflects_and_every_write_what_it_got(api: Api) -> None:
    wrote = api.post("/api/v1/runs", new_run())
    worker, _, seq = wrote.headers["runlake-position"].partition(":")
    assert UUID(worker)
    assert int(seq) > 0
    read = api.get("/api/v1/runs")
    reflected = dict(part.split(":") for part in read.headers["runlake-position"].split(","))
    assert int(reflected[worker]) >= int(seq)
    assert int(read.headers["runlake-lag-ms"]) >= 0
    assert api.get("/api/v1/runs", after=wrote.headers["runlake-position"]).status == 200


def test_a_position_that_does_not_come_is_503_and_other_reads_go_on(api: Api) -> None:
    body = problem(api.get("/api/v1/runs", after=f"{uuid4()}:7"), 503)
    assert body["detail"].startswith("after: ")
    assert api.get("/api/v1/runs").status == 200


@pytest.mark.parametrize("run_id", ["a/b", "c:d", "100%", "e f", "ü/Ж 字", "a+b", "{x}", "?q#f", "..", "%2F"])
def test_a_run_id_may_hold_anything_in_the_path(api: Api, run_id: str) -> None:
    run = created(api, run_id=f"{run_id} {uuid4()}")
    in_path = quote(run["run_id"], safe="")
    assert api.ok(f"/api/v1/runs/{in_path}") == run
    assert api.ok(f"/api/v1/runs/{in_path}/events") == []
    assert api.post(f"/api/v1/runs/{in_path}/events", {"type": "x"}).status == 201


# POST /api/v1/runs


def test_a_run_is_created_with_201_and_seen_in_the_same_millisecond_by_every_read(api: Api) -> None:
    agent = f"agent {uuid4()}"
    for count in range(1, 11):
        run = created(api, agent_name=agent)
        assert api.ok(path_of(run)) == run
        assert api.ok(path_of(run, "events")) == []
        page = api.ok("/api/v1/runs", agent_name=agent)
        assert page["total"] == count
        assert run in page["runs"]
        assert api.ok("/api/v1/rollups", agent_name=agent)["totals"]["runs"] == count
        assert agent in api.ok("/api/v1/metadata")["agent_names"]


def test_the_answer_is_what_a_read_shows(api: Api) -> None:
    run = created(
        api,
        status="completed", parent_run_id="p", end_time="2026-01-28T10:31:00+00:00", items_discovered=3,
        metrics_json={"model": "m", "input_tokens": 5, "api_cost_usd": 0.25, "deep": {"x": [1, 2.5, None, "é"]}},
        context_json={"trace_id": "t"}, git_commit_hash="9fceb02", git_commit_author="Ä",
        git_commit_timestamp="2026-01-28T10:00:00Z", commit_source="llm", input_summary="…",
    )  # fmt: skip
    assert run["status"] == "success"
    assert run["duration_ms"] == 60_000
    assert (run["model"], run["input_tokens"], run["cost_usd"], run["trace_id"]) == ("m", 5, 0.25, "t")
    assert (run["commit_hash"], run["commit_author"], run["commit_source"]) == ("9fceb02", "Ä", "llm")
    assert api.ok(path_of(run)) == run
    assert run in api.ok("/api/v1/runs", git_commit_hash="9fceb02", limit=1000)["runs"]


@pytest.mark.parametrize(
    ("alias", "status"), [("failed", "failure"), ("completed", "success"), ("succeeded", "success")]
)
def test_status_aliases_are_accepted_on_creation_and_in_filters(api: Api, alias: str, status: str) -> None:
    run = created(api, status=alias)
    assert run["status"] == status
    assert run in api.ok("/api/v1/runs", status=alias, limit=1000)["runs"]


def test_the_same_event_id_again_is_201_with_the_run_as_it_stands_and_changes_nothing(api: Api) -> None:
    body = new_run(product="first")
    assert api.post("/api/v1/runs", body).status == 201
    changed = api.patch(f"/api/v1/runs/{body['event_id']}", {"status": "success"}).json
    for again in (body, {**body, "product": "second", "host": "h", "start_time": "2026-02-01T00:00:00Z"}):
        reply = api.post("/api/v1/runs", again)
        assert reply.status == 201
        assert reply.headers["idempotent-replayed"] == "true"
        assert reply.json == changed
    assert api.ok(f"/api/v1/runs/{body['event_id']}") == changed


def test_two_clients_that_race_on_an_event_id_get_the_same_run_and_one_creates_it(service: str) -> None:
    for _ in range(5):
        body = new_run()
        replies: list[Reply] = []
        barrier = threading.Barrier(8)

        def race(number: int, body: dict[str, Any] = body, replies: list[Reply] = replies,
                 barrier: threading.Barrier = barrier) -> None:  # fmt: skip
            api = Api(service)
            barrier.wait(30)
            replies.append(api.post("/api/v1/runs", {**body, "product": str(number)}))
            api.close()

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [reply.status for reply in replies] == [201] * 8
        assert len({reply.text for reply in replies}) == 1
        assert sum("idempotent-replayed" not in reply.headers for reply in replies) == 1


# GET /api/v1/runs


def test_lists_are_newest_first_filtered_and_counted(api: Api) -> None:
    agent = f"lister {uuid4()}"
    for number in range(5):
        created(
            api, agent_name=agent, start_time=f"2026-01-0{number + 1}T00:00:00Z", status="success" if number else None,
            job_type=f"j{number % 2}", parent_run_id="p" if number == 1 else None, product="x" if number == 2 else None,
        )  # fmt: skip
    page = api.ok("/api/v1/runs", agent_name=agent, limit=2)
    assert page.keys() == {"runs", "total", "limit", "offset", "next_cursor"}
    assert (page["total"], page["limit"], page["offset"]) == (5, 2, 0)
    assert [run["start_time"][:10] for run in page["runs"]] == ["2026-01-05", "2026-01-04"]
    assert api.ok("/api/v1/runs", agent_name=agent, limit=2, offset=4)["runs"][0]["start_time"][:10] == "2026-01-01"
    for filters, total in (
        ({"status": "success"}, 4), ({"status": "running"}, 1), ({"job_type": "j1"}, 2), ({"parent_run_id": "p"}, 1),
        ({"product": "x"}, 1), ({"status": "success", "job_type": "j0"}, 2), ({"job_type": ["j0", "j1"]}, 5),
    ):  # fmt: skip
        assert api.ok("/api/v1/runs", agent_name=agent, **filters)["total"] == total, filters


def test_cursor_paging_neither_skips_nor_repeats_while_runs_arrive(api: Api) -> None:
    agent = f"pager {uuid4()}"
    before = {created(api, agent_name=agent, start_time=f"2026-01-01T00:00:{n % 7:02}Z")["event_id"] for n in range(20)}
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.ok("/api/v1/runs", agent_name=agent, limit=3, **cursor)
        seen += [run["event_id"] for run in page["runs"]]
        created(api, agent_name=agent, start_time="2026-01-02T00:00:00Z")
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(seen) == len(set(seen))
    assert before <= set(seen)


def test_an_etag_spares_the_body_until_something_changes(api: Api) -> None:
    run = created(api, agent_name=f"tagged {uuid4()}")
    for path in (f"/api/v1/runs?agent_name={quote(run['agent_name'])}", path_of(run), "/api/v1/rollups"):
        tag = api.get(path).headers["etag"]
        reply = api.get(path, {"If-None-Match": f'"other", {tag}'})
        assert (reply.status, reply.text, reply.headers["etag"]) == (304, "", tag)
    path, tag = path_of(run), api.get(path_of(run)).headers["etag"]
    api.patch(path, {"status": "success"})
    assert api.get(path, {"If-None-Match": tag}).status == 200


def test_gzip_when_asked(api: Api) -> None:
    run = created(api, input_summary="x" * 5_000)
    plain, small = api.get(path_of(run)), api.get(path_of(run), {"Accept-Encoding": "br;q=1, gzip;q=0.5"})
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert small.json == plain.json == run
    assert "content-encoding" not in api.get(path_of(run), {"Accept-Encoding": "gzip;q=0"}).headers


# GET /api/v1/runs/{run_id}


def test_a_run_id_means_its_most_recently_created_run_and_an_event_id_is_taken_in_its_place(api: Api) -> None:
    first = created(api)
    second = created(api, run_id=first["run_id"], start_time="2025-01-01T00:00:00Z")
    assert api.ok(f"/api/v1/runs/{quote(first['run_id'])}") == second
    assert api.ok(path_of(first)) == first
    assert api.ok(f"/api/v1/runs/{first['event_id'].upper()}") == first


@pytest.mark.parametrize("name", ["nobody", "4d6c1f0e-62a4-4b07-9c41-6a1c7a4be2d1"])
def test_an_unknown_run_is_404_everywhere(api: Api, name: str) -> None:
    for reply in (
        api.get(f"/api/v1/runs/{name}"),
        api.get(f"/api/v1/runs/{name}/events"),
        api.patch(f"/api/v1/runs/{name}", {"status": "success"}),
        api.patch(f"/api/v1/runs/{name}", {}),
        api.post(f"/api/v1/runs/{name}/associate-commit", {"commit_hash": "abcdef0", "commit_source": "ci"}),
        api.post(f"/api/v1/runs/{name}/events", {"type": "x"}),
    ):
        assert problem(reply, 404)["detail"] == f"Run not found: {name}"


# PATCH /api/v1/runs/{event_id}


def test_a_patch_changes_only_what_is_present_and_replaces_maps(api: Api) -> None:
    run = created(api, product="p", metrics_json={"a": 1}, context_json={"b": 2})
    change = {
        "status": "failure", "end_time": "2026-01-28T10:30:02Z", "items_failed": 1, "error_summary": "boom",
        "metrics_json": {"c": 3}, "product": None, "git_commit_hash": "abcdef0",
    }  # fmt: skip
    reply = api.patch(path_of(run), change)
    assert reply.status == 200
    changed = reply.json
    expected = run | {
        "status": "failure", "end_time": "2026-01-28T10:30:02Z", "duration_ms": 2_000, "items_failed": 1,
        "error_summary": "boom", "metrics_json": {"c": 3}, "commit_hash": "abcdef0",
        "updated_at": changed["updated_at"],
    }  # fmt: skip
    assert changed == expected == api.ok(path_of(run))
    assert changed["updated_at"] > run["updated_at"]


def test_every_answer_to_a_change_is_what_a_read_shows(api: Api) -> None:
    run = created(api)
    for change in (
        {"heartbeat_until": "2026-01-28T12:00:00.120+01:00"}, {"context_json": {"trace_id": "t", "ü": [1, None]}},
        {"end_time": "2026-01-28T10:31:00Z"}, {"end_time": "2026-01-28T10:32:00Z", "status": "success"},
        {"metrics_json": {"input_tokens": 3}}, {"duration_ms": 5}, {"end_time": "2026-01-28T10:33:00Z"},
        {"commit_hash": "abcdef0"}, {"error_details": "…"},
    ):  # fmt: skip
        shown = api.patch(path_of(run), change).json
        assert api.ok(path_of(run)) == shown
    assert (shown["duration_ms"], shown["trace_id"], shown["input_tokens"]) == (5, "t", 3)


def test_changes_that_follow_each_other_at_once_are_all_in_the_answers(api: Api) -> None:
    run = created(api)
    for number in range(1, 6):
        shown = [api.patch(path_of(run), {name: number}).json for name in ("items_failed", "items_skipped")]
        assert [one["items_failed"] for one in shown] == [number, number]
    again = api.post("/api/v1/runs", {name: run[name] for name in new_run()})
    assert (again.json["items_failed"], again.json["items_skipped"]) == (5, 5)


def test_an_empty_patch_answers_the_run_unchanged(api: Api) -> None:
    run = created(api)
    for body in ({}, {"status": None}, {"unknown": 1}):
        reply = api.patch(path_of(run), body)
        assert (reply.status, reply.json) == (200, run)


@pytest.mark.parametrize("field", ["event_id", "run_id", "parent_run_id", "agent_name", "job_type", "start_time"])
def test_identity_fields_cannot_change(api: Api, field: str) -> None:
    run = created(api)
    body = problem(api.patch(path_of(run), {field: str(uuid4()), "status": "success"}), 400)
    assert body["errors"][0]["field"] == field
    assert api.ok(path_of(run)) == run


@pytest.mark.parametrize("status", ["failed", "completed", "succeeded", "done", 1])
def test_a_patch_takes_canonical_statuses_only(api: Api, status: object) -> None:
    assert problem(api.patch(path_of(created(api)), {"status": status}), 400)["detail"].startswith("status: ")


@pytest.mark.parametrize("key", [Uuid7Source()(), uuid4()])
def test_an_idempotency_key_makes_the_retry_of_a_change_safe(api: Api, key: UUID) -> None:
    run = created(api)
    header = {"Idempotency-Key": str(key)}
    first = api.patch(path_of(run), {"items_failed": 1}, header)
    other = api.patch(path_of(run), {"items_failed": 2})
    retry = api.patch(path_of(run), {"items_failed": 1}, header)
    assert "idempotent-replayed" not in first.headers
    assert (retry.status, retry.headers["idempotent-replayed"]) == (200, "true")
    assert retry.json == other.json == api.ok(path_of(run))


# GET and POST /api/v1/runs/{run_id}/events


def test_events_are_appended_one_or_many_and_listed_by_time(api: Api) -> None:
    run = created(api)
    one = api.post(path_of(run, "events"), {"type": "b", "ts": "2026-01-28T10:30:02Z", "payload": {"x": [1, None]}})
    assert one.status == 201
    assert one.json == {
        "event_id": one.json["event_id"], "run_id": run["run_id"], "ts": "2026-01-28T10:30:02Z", "type": "b",
        "payload": {"x": [1, None]}, "trace_id": None, "span_id": None, "parent_span_id": None,
    }  # fmt: skip
    many = api.post(
        path_of(run, "events"),
        [{"type": "c", "ts": "2026-01-28T10:30:03Z", "span_id": "s"}, {"type": "a", "ts": "2026-01-28T10:30:01+00:00"}],
    )
    assert many.status == 201
    assert [event["type"] for event in many.json] == ["c", "a"]
    listed = api.ok(path_of(run, "events"))
    assert [event["type"] for event in listed] == ["a", "b", "c"]
    assert {event["event_id"]: event for event in listed} == {e["event_id"]: e for e in (one.json, *many.json)}
    lines = api.get(path_of(run, "events"), {"Accept": "application/x-ndjson"})
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert len(lines.text.splitlines()) == 3
    assert [event["type"] for event in api.ok(path_of(run, "events"), type="b")] == ["b"]
    assert len(api.ok(path_of(run, "events"), limit=2)) == 2


@pytest.mark.parametrize("key", [Uuid7Source()(), uuid4()])
@pytest.mark.parametrize("body", [{"type": "x"}, [{"type": "x"}, {"type": "y"}]])
def test_an_idempotency_key_makes_the_retry_of_an_append_safe(api: Api, key: UUID, body: Any) -> None:
    run = created(api)
    header = {"Idempotency-Key": str(key)}
    first = api.post(path_of(run, "events"), body, header)
    again = api.post(path_of(run, "events"), body, header)
    assert (first.status, again.status) == (201, 201)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json == first.json
    assert len(api.ok(path_of(run, "events"))) == (len(body) if isinstance(body, list) else 1)


def test_creating_and_changing_a_run_makes_no_event(api: Api) -> None:
    run = created(api)
    api.patch(path_of(run), {"status": "success"})
    assert api.ok(path_of(run, "events")) == []


# POST /api/v1/runs/{event_id}/associate-commit


@pytest.mark.parametrize("prefix", ["", "git_"])
def test_a_commit_is_associated_and_the_latest_is_the_runs(api: Api, prefix: str) -> None:
    run = created(api)
    first = {f"{prefix}commit_hash": "abcdef0", f"{prefix}commit_source": "manual", f"{prefix}commit_author": "A"}
    assert api.post(path_of(run, "associate-commit"), first).json["commit_author"] == "A"
    second = {
        f"{prefix}commit_hash": "A" * 40, f"{prefix}commit_source": "ci",
        f"{prefix}commit_timestamp": "2026-01-28T11:00:00+01:00",
    }  # fmt: skip
    reply = api.post(path_of(run, "associate-commit"), second)
    assert reply.status == 200
    shown = {name: value for name, value in reply.json.items() if name.startswith("commit_")}
    assert shown == {
        "commit_hash": "A" * 40, "commit_source": "ci", "commit_author": None,
        "commit_timestamp": "2026-01-28T10:00:00Z",
    }  # fmt: skip
    assert api.ok(path_of(run)) == reply.json


def test_an_idempotency_key_makes_the_retry_of_an_associated_commit_safe(api: Api) -> None:
    run, header = created(api), {"Idempotency-Key": str(uuid4())}
    first = {"commit_hash": "abcdef0", "commit_source": "ci"}
    assert "idempotent-replayed" not in api.post(path_of(run, "associate-commit"), first, header).headers
    later = api.post(path_of(run, "associate-commit"), {**first, "commit_hash": "1234567"})
    retry = api.post(path_of(run, "associate-commit"), first, header)
    assert (retry.status, retry.headers["idempotent-replayed"]) == (200, "true")
    assert retry.json == later.json == api.ok(path_of(run))


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"commit_source": "ci"}, "commit_hash"), ({"commit_hash": "abcdef", "commit_source": "ci"}, "commit_hash"),
        ({"commit_hash": "a" * 41, "commit_source": "ci"}, "commit_hash"),
        ({"commit_hash": "abcdef_", "commit_source": "ci"}, "commit_hash"),
        ({"commit_hash": "abcdef0"}, "commit_source"),
        ({"commit_hash": "abcdef0", "commit_source": "x"}, "commit_source"),
    ],
)  # fmt: skip
def test_a_wrong_commit_is_400_and_named(api: Api, body: dict[str, str], names: str) -> None:
    assert names in problem(api.post(path_of(created(api), "associate-commit"), body), 400)["detail"]


# POST /api/v1/runs/batch and batch-transactional


def test_a_batch_stores_the_good_ones_and_lists_the_bad_ones(api: Api) -> None:
    known = created(api)
    good, bad = [new_run(), new_run()], new_run(start_time="yesterday")
    again = {name: known[name] for name in ("event_id", "run_id", "agent_name", "job_type", "start_time")}
    reply = api.post("/api/v1/runs/batch", {"runs": [good[0], bad, again, good[1], good[0], 7]})
    assert reply.status == 201
    answer = reply.json
    assert answer.keys() == {"runs", "total", "created", "existing", "failed", "errors"}
    assert (answer["total"], answer["created"], answer["existing"], answer["failed"]) == (6, 2, 2, 2)
    ids = [run["event_id"] for run in answer["runs"]]
    assert ids == [good[0]["event_id"], known["event_id"], good[1]["event_id"], good[0]["event_id"]]
    assert [(error["index"], error["event_id"]) for error in answer["errors"]] == [(1, bad["event_id"]), (5, None)]
    assert answer["errors"][0]["error"].startswith("start_time: ")
    for run in answer["runs"]:
        assert api.ok(path_of(run)) == run
    problem(api.get(f"/api/v1/runs/{bad['event_id']}"), 404)


def test_a_bare_array_is_a_batch_too_and_answers_200_with_counts(api: Api) -> None:
    good, bad = new_run(), new_run(agent_name="")
    reply = api.post("/api/v1/runs/batch", [good, bad, good])
    assert reply.status == 200
    answer = reply.json
    assert answer.keys() == {"inserted", "duplicates", "errors", "total"}
    assert (answer["inserted"], answer["duplicates"], answer["total"]) == (1, 1, 3)
    assert [error["index"] for error in answer["errors"]] == [1]
    assert api.post("/api/v1/runs/batch", [good]).json["duplicates"] == 1


def test_a_transactional_batch_stores_all_or_none(api: Api) -> None:
    runs = [new_run(), new_run()]
    body = problem(api.post("/api/v1/runs/batch-transactional", {"runs": [*runs, new_run(job_type=None)]}), 400)
    assert body["errors"][0]["field"] == "runs[2].job_type"
    for run in runs:
        problem(api.get(f"/api/v1/runs/{run['event_id']}"), 404)
    reply = api.post("/api/v1/runs/batch-transactional", {"runs": runs})
    assert reply.status == 201
    assert (reply.json["created"], reply.json["failed"]) == (2, 0)
    again = api.post("/api/v1/runs/batch-transactional", {"runs": runs}).json
    assert (again["created"], again["existing"]) == (0, 2)


def test_a_batch_of_a_thousand_is_taken_whole(api: Api) -> None:
    agent = f"batcher {uuid4()}"
    reply = api.post("/api/v1/runs/batch", {"runs": [new_run(agent_name=agent) for _ in range(1_000)]})
    assert reply.json["created"] == 1_000
    assert api.ok("/api/v1/runs", agent_name=agent)["total"] == 1_000


# GET /api/v1/metadata, /health, /ready, /metrics


def test_metadata_is_distinct_sorted_counted_and_cached_until_something_changes(api: Api) -> None:
    name = f"meta {uuid4()}"
    created(api, agent_name=name, job_type=name)
    first, second = (api.ok("/api/v1/metadata") for _ in range(2))
    assert first.keys() == {"agent_names", "job_types", "counts", "cache_hit"}
    assert (first["cache_hit"], second["cache_hit"]) == (False, True)
    assert first["agent_names"] == sorted(set(first["agent_names"]))
    assert name in first["agent_names"]
    assert name in first["job_types"]
    assert first["counts"] == {"agent_names": len(first["agent_names"]), "job_types": len(first["job_types"])}
    assert {**second, "cache_hit": False} == first


def test_health_and_ready(api: Api) -> None:
    assert api.ok("/health")["status"] == "ok"
    ready = api.ok("/ready")
    assert (ready["status"], ready["ingest_connected"]) == ("ready", True)


def test_metrics_are_text_for_prometheus_and_json_for_old_clients(api: Api) -> None:
    created(api, start_time=START)
    text = api.get("/metrics")
    assert text.headers["content-type"].startswith("text/plain")
    assert 'runlake_http_requests_total{method="POST",route="/api/v1/runs",status="201"}' in text.text
    for name in ("runlake_http_request_seconds_bucket", "runlake_query_lag_seconds", "runlake_query_applied_seq"):
        assert name in text.text
    summary = api.get("/metrics", {"Accept": "application/json"})
    assert summary.headers["content-type"].startswith("application/json")
    assert summary.json.keys() == {"total_runs", "agents", "recent_24h", "performance"}
    assert summary.json["total_runs"] == sum(summary.json["agents"].values()) > 0
