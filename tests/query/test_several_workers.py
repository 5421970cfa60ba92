"""Query processes beside several real workers on a lake in PostgreSQL: who writes where, who sees what, who is away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest

from runlake.homes import home_of
from runlake.ids import Uuid7Source
from support.api import Api, Reply
from support.contract import new_run, problem
from support.postgres import Postgres
from support.processes import Process, Site, wait_until
from support.producer import Producer
from support.samples import updated
from support.streaming import Stream
from support.workers import Workers

pytestmark = pytest.mark.xdist_group("several workers")


class Place(NamedTuple):
    """Three workers on one list, and two query processes."""

    workers: Workers
    sites: dict[UUID, Site]
    ingest: dict[UUID, Process]
    queries: list[Process]
    apis: list[Api]
    ends: ExitStack
    """What ends when the tests have."""

    @property
    def ids(self) -> list[UUID]:
        return list(self.sites)

    def run_of(self, worker: UUID, **fields: Any) -> dict[str, Any]:
        """A run whose home this worker is."""
        while True:
            body = new_run(**fields)
            if home_of(UUID(body["event_id"]).bytes, self.ids) == worker:
                return body


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("several")
    workers = Workers(folder, postgres.create_database())
    sites = [workers.site(f"w{number}") for number in range(3)]
    with ExitStack() as ends:
        ingest = [ends.enter_context(sites[0].ingest("--flush-interval-ms", "500"))]
        ingest += [ends.enter_context(site.ingest("--flush-interval-ms", "500")) for site in sites[1:]]
        ids = [UUID(process.wait_for("ready")["worker"]) for process in ingest]
        workers.change("add")
        everyone = {
            "RUNLAKE_INGEST": ",".join(site.ingest_endpoint for site in sites),
            "RUNLAKE_FEED": ",".join(site.feed_endpoint for site in sites),
        }
        queries, apis = [], []
        for number in range(2):
            site = workers.site(f"q{number}")
            site.ingest_endpoint, site.feed_endpoint = everyone["RUNLAKE_INGEST"], everyone["RUNLAKE_FEED"]
            process, url = site.query()
            queries.append(ends.enter_context(process))
            apis.append(Api(url))
            ends.callback(apis[-1].close)
        for process in queries:
            process.wait_for("feed_heard")
        of_ids = dict(zip(ids, sites, strict=True)), dict(zip(ids, ingest, strict=True))
        found = Place(workers, *of_ids, queries, apis, ends)
        for api in apis:
            wait_until(lambda api=api: len(api.ok("/ready")["workers"]) == 3, "the list is known")  # type: ignore[misc]
        yield found


def positions(reply: Reply) -> dict[str, int]:
    text = reply.headers["runlake-position"]
    return {worker: int(seq) for worker, seq in (part.split(":") for part in text.split(","))}


def test_every_write_goes_to_the_home_of_its_run_and_every_process_sees_it_by_its_position(place: Place) -> None:
    writer, reader = place.apis
    for worker in place.ids:
        body = place.run_of(worker)
        path = f"/api/v1/runs/{body['event_id']}"
        made = writer.post("/api/v1/runs", body)
        assert (made.status, list(positions(made))) == (201, [str(worker)])
        assert reader.get(path, after=made.headers["runlake-position"]).json == made.json
        changed = reader.patch(path, {"items_failed": 7})
        assert list(positions(changed)) == [str(worker)]
        assert writer.get(path, after=changed.headers["runlake-position"]).json == changed.json
        event = writer.post(f"{path}/events", [{"type": "x"}, {"type": "y"}])
        assert list(positions(event)) == [str(worker)]
        assert len(reader.ok(f"{path}/events", after=event.headers["runlake-position"])) == 2
        assert set(positions(reader.get("/api/v1/runs"))) >= {str(worker)}


def test_a_batch_for_all_of_them_keeps_its_order_and_is_told_apart_by_none(place: Place) -> None:
    runs = [new_run() for _ in range(30)]
    for path in ("/api/v1/runs/batch", "/api/v1/runs/batch-transactional"):
        reply = place.apis[0].post(path, {"runs": runs})
        assert (reply.status, reply.json["failed"]) == (201, 0)
        assert [run["event_id"] for run in reply.json["runs"]] == [run["event_id"] for run in runs]
        known = path.endswith("transactional")
        assert (reply.json["created"], reply.json["existing"]) == ((0, 30) if known else (30, 0))
    assert len(positions(reply)) == 3
    one = place.apis[1].post("/api/v1/runs", runs[0], {})
    assert (one.status, one.headers["idempotent-replayed"]) == (201, "true")


def test_p2_processes_that_race_on_an_event_id_answer_the_same_run(place: Place) -> None:
    for worker in place.ids:
        body, replies, barrier = place.run_of(worker), list[Reply](), threading.Barrier(4)

        def race(number: int, body: dict[str, Any] = body, replies: list[Reply] = replies,
                 barrier: threading.Barrier = barrier) -> None:  # fmt: skip
            api = Api(place.apis[number % 2].url)
            barrier.wait(30)
            replies.append(api.post("/api/v1/runs", {**body, "product": str(number)}))
            api.close()

        threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [reply.status for reply in replies] == [201] * 4
        assert len({reply.text for reply in replies}) == 1
        assert sum("idempotent-replayed" not in reply.headers for reply in replies) == 1


def test_a_start_whose_updates_came_first_is_answered_with_them(place: Place) -> None:
    worker = place.ids[0]
    body = place.run_of(worker)
    with Producer(place.sites[worker].ingest_endpoint) as producer:
        ack = producer.deliver([updated(UUID(body["event_id"]), items_failed=5)])
    for api in place.apis:
        assert api.get("/api/v1/runs", limit=1, after=f"{worker}:{ack.first_seq}").status == 200
    made = place.apis[0].post("/api/v1/runs", body)
    assert (made.status, made.json["items_failed"]) == (201, 5)
    body = place.run_of(worker)
    with Producer(place.sites[worker].ingest_endpoint) as producer:
        ack = producer.deliver([updated(UUID(body["event_id"]), items_failed=6)])
    assert place.apis[0].get("/api/v1/runs", limit=1, after=f"{worker}:{ack.first_seq}").status == 200
    made = place.apis[0].post("/api/v1/runs/batch", {"runs": [body, place.run_of(place.ids[1])]})
    assert [run["items_failed"] for run in made.json["runs"]] == [6, None]


def test_a_stream_that_goes_on_at_another_process_sends_what_was_missed_of_every_worker_once(place: Place) -> None:
    agent = f"stream {uuid4()}"
    writer, other = place.apis
    with Stream(writer.url, agent_name=agent) as stream:
        stream.wait("position")
        for worker in place.ids:
            assert writer.post("/api/v1/runs", place.run_of(worker, agent_name=agent)).status == 201
        last = stream.wait("run", 3)[-1].position
    missed = [place.run_of(worker, agent_name=agent) for worker in place.ids]
    for body in missed:
        assert writer.post("/api/v1/runs", body).status == 201
    with Stream(other.url, last=last, agent_name=agent) as stream:
        found = [told.data["event_id"] for told in stream.wait("run", 3)]
    assert sorted(found) == sorted(body["event_id"] for body in missed)


def test_while_a_worker_is_away_its_runs_are_503_all_others_go_on_and_it_is_named(place: Place) -> None:
    lost, kept = place.ids[1], place.ids[2]
    api = place.apis[0]
    known = place.run_of(lost)
    made = api.post("/api/v1/runs", known)
    assert api.get(f"/api/v1/runs/{known['event_id']}", after=made.headers["runlake-position"]).status == 200
    process = place.ingest[lost]
    process.send(signal.SIGTERM)
    assert process.wait() == 0
    wait_until(lambda: not api.ok("/ready")["ingest_connected"], "it is away")
    refused = problem(api.post("/api/v1/runs", place.run_of(lost)), 503)
    assert str(lost) in refused["detail"]
    assert "Nothing was stored" in refused["detail"]
    assert api.post("/api/v1/runs", place.run_of(kept)).status == 201
    assert api.ok(f"/api/v1/runs/{known['event_id']}")["run_id"] == known["run_id"]
    unknown = problem(api.patch(f"/api/v1/runs/{place.run_of(lost)['event_id']}", {"items_failed": 1}), 503)
    assert str(lost) in unknown["detail"]
    problem(api.patch(f"/api/v1/runs/{place.run_of(kept)['event_id']}", {"items_failed": 1}), 404)
    both = [place.run_of(kept), place.run_of(lost), place.run_of(kept)]
    batch = api.post("/api/v1/runs/batch", {"runs": both})
    assert (batch.status, batch.json["created"], batch.json["failed"]) == (201, 2, 1)
    assert [run["event_id"] for run in batch.json["runs"]] == [both[0]["event_id"], both[2]["event_id"]]
    (error,) = batch.json["errors"]
    assert (error["index"], "Nothing was stored" in error["error"]) == (1, True)
    whole = [place.run_of(kept), place.run_of(lost)]
    problem(api.post("/api/v1/runs/batch-transactional", {"runs": whole}), 503)
    assert "idempotent-replayed" not in api.post("/api/v1/runs", whole[0]).headers, "nothing of it was stored"
    assert api.ok("/health")["workers_away"] == [str(lost)]

    def states() -> list[tuple[bool, bool]]:
        found = {state["worker"]: state for state in api.ok("/ready")["workers"]}
        return [(found[str(one)]["connected"], found[str(one)]["feed_heard"]) for one in (lost, kept)]

    wait_until(lambda: states() == [(False, False), (True, True)], "its feed alone is silent")
    assert not api.ok("/ready")["feed_heard"]
    page = api.get("/metrics").text
    assert f'runlake_query_worker_connected{{worker="{lost}"}} 0.0\n' in page
    assert f'runlake_query_feed_heard{{worker="{kept}"}} 1.0\n' in page
    place.ingest[lost] = place.ends.enter_context(place.sites[lost].ingest("--flush-interval-ms", "500"))
    wait_until(lambda: api.ok("/ready")["ingest_connected"] and api.ok("/ready")["feed_heard"], "it is back")
    assert api.post("/api/v1/runs", place.run_of(lost)).status == 201


def test_p5_a_list_change_loses_no_write_and_every_process_folds_a_moved_run_alike(place: Place) -> None:
    leaving = place.ids[2]
    runs = [place.run_of(worker) for worker in place.ids for _ in range(3)]
    writer, reader = place.apis
    assert writer.post("/api/v1/runs/batch", {"runs": runs}).json["created"] == len(runs)
    stop, wrong, count = threading.Event(), list[Any](), [0]

    def write() -> None:
        api = Api(writer.url)
        new_id = Uuid7Source()
        while not stop.is_set():
            count[0] += 1
            for run in runs:
                path = f"/api/v1/runs/{run['event_id']}"
                key = {"Idempotency-Key": str(new_id())}
                reply = api.patch(path, {"items_failed": count[0]}, key)
                for _ in range(4):  # what a busy machine cannot show in time may be asked for again, and is told then
                    if reply.status == 503:
                        reply = api.patch(path, {"items_failed": count[0]}, key)
                if reply.status != 200 or reply.json["items_failed"] != count[0]:
                    wrong.append(reply)
        api.close()

    thread = threading.Thread(target=write)
    thread.start()
    wait_until(lambda: count[0] > 2, "it writes")
    place.workers.change("remove", str(leaving))
    at = count[0]
    wait_until(lambda: count[0] > at + 2, "it writes on")
    place.workers.change("add", str(leaving))
    at = count[0]
    wait_until(lambda: count[0] > at + 2, "it writes on")
    stop.set()
    thread.join(60)
    assert wrong == []
    for run in runs:
        path = f"/api/v1/runs/{run['event_id']}"
        assert writer.ok(path)["items_failed"] == count[0]
        after = writer.get(path).headers["runlake-position"]
        assert reader.ok(path, after=after)["items_failed"] == count[0]
    gaps = [row["gaps"] for row in writer.ok("/api/v1/producers")["producers"]]
    assert gaps == [0] * len(gaps)


def test_p4_a_read_model_built_anew_after_list_changes_equals_one_that_followed(place: Place, tmp_path: Path) -> None:
    followed = place.apis[0]
    after = followed.get("/api/v1/runs", limit=1).headers["runlake-position"]
    site = place.workers.site(tmp_path.name)
    for name in ("ingest_endpoint", "feed_endpoint"):
        setattr(site, name, ",".join(getattr(one, name) for one in place.sites.values()))
    process, url = site.query()
    with process:
        anew = Api(url)
        path = "/api/v1/runs?limit=1000&order_by=run_id"
        shown = anew.get(f"{path}&after={after}")
        assert shown.status == 200, shown.text
        assert shown.json["runs"] == followed.ok(path)["runs"]
        anew.close()
