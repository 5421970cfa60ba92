"""The gateway across restarts, kills and other processes: what was written is there once, whoever is asked."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from runlake.ids import Uuid7Source
from support.api import Api, Reply
from support.contract import new_run, problem
from support.processes import Site, wait_until
from support.producer import Producer
from support.reading import one
from support.samples import updated


@pytest.mark.parametrize("key", [Uuid7Source()(), uuid4()])
def test_a_retry_with_the_same_key_is_known_after_a_restart_without_a_window(site: Site, key: UUID) -> None:
    body = new_run(start_time="2020-01-01T00:00:00Z")
    path, header = f"/api/v1/runs/{body['event_id']}", {"Idempotency-Key": str(key)}
    replayed = []
    for _ in range(2):
        with site.ingest("--window-ids", "1") as ingest:
            query, url = site.query()
            with query:
                api = Api(url)
                assert api.post("/api/v1/runs", body).status == 201
                patched = api.patch(path, {"items_failed": 1}, header)
                assert patched.status == 200
                event = api.post(f"{path}/events", {"type": "x"}, {"Idempotency-Key": str(UUID(int=key.int ^ 1))})
                assert event.status == 201
                replayed.append([reply.headers.get("idempotent-replayed") for reply in (patched, event)])
                assert len(api.ok(f"{path}/events")) == 1
                api.close()
                assert query.terminate() == 0
            assert ingest.terminate() == 0
    assert replayed == [[None, None], ["true", "true"]]
    assert one(site.catalog, "SELECT count(*) FROM run_changes") == 2


def test_a_run_years_old_is_known_right_after_a_restart_whatever_start_it_is_sent_with(site: Site) -> None:
    body = new_run(start_time="2019-05-01T00:00:00Z", product="first")
    with site.ingest("--window-ids", "1"):
        query, url = site.query()
        with query:
            api = Api(url)
            shown = api.post("/api/v1/runs", body).json
            api.close()
        with Producer(site.ingest_endpoint) as producer:
            producer.flush()
    with site.ingest("--window-ids", "1"):
        query, url = site.query(caught_up=False)
        with query:
            api = Api(url)
            for start in ("2019-05-01T00:00:00Z", "2026-01-01T00:00:00Z"):
                again = {**body, "start_time": start, "product": "second"}
                wait_until(lambda again=again: api.post("/api/v1/runs", again).status == 201, "an answer")  # type: ignore[misc]
                reply = api.post("/api/v1/runs", again)
                assert (reply.headers["idempotent-replayed"], reply.json) == ("true", shown)
            problem(api.get(f"/api/v1/runs/{uuid4()}"), 404)
            api.close()


def test_what_is_only_in_the_journal_is_no_404_right_after_a_restart(site: Site) -> None:
    body = new_run()
    with site.ingest("--flush-interval-ms", "600000"):
        query, url = site.query()
        with query:
            api = Api(url)
            assert api.post("/api/v1/runs", body).status == 201
            api.close()
        query, url = site.query()
        with query, Producer(site.ingest_endpoint) as producer:
            producer.flush()
            api = Api(url)
            assert api.get(f"/api/v1/runs/{body['event_id']}").status == 200
            api.close()


def test_a_position_of_one_process_is_waited_for_by_another(site: Site, tmp_path: Path) -> None:
    with site.ingest():
        (first, one_url), (second, two_url) = site.query(), site.query("--read-model", str(tmp_path / "second"))
        with first, second:
            writer, reader = Api(one_url), Api(two_url)
            for _ in range(10):
                body = new_run()
                position = writer.post("/api/v1/runs", body).headers["runlake-position"]
                assert reader.get(f"/api/v1/runs/{body['event_id']}", after=position).status == 200
            writer.close()
            reader.close()


def test_a_change_is_answered_with_all_that_came_before_it_whoever_sent_it(site: Site) -> None:
    with site.ingest():
        query, url = site.query()
        with query, Producer(site.ingest_endpoint) as producer:
            api = Api(url)
            run = api.post("/api/v1/runs", new_run()).json
            path = f"/api/v1/runs/{run['event_id']}"
            for number in range(1, 11):
                producer.deliver([updated(UUID(run["event_id"]), items_failed=number)])
                first = api.patch(path, {"items_succeeded": number}).json
                second = api.patch(path, {"items_skipped": number}).json
                assert (first["items_failed"], first["items_succeeded"]) == (number, number)
                assert (second["items_failed"], second["items_succeeded"], second["items_skipped"]) == (number,) * 3
                assert api.ok(path) == second
            api.close()


def test_two_processes_that_race_on_an_event_id_answer_the_same_run(site: Site, tmp_path: Path) -> None:
    with site.ingest():
        (first, one_url), (second, two_url) = site.query(), site.query("--read-model", str(tmp_path / "second"))
        with first, second:
            for _ in range(5):
                body, replies, barrier = new_run(), list[Reply](), threading.Barrier(4)

                def race(url: str, number: int, body: object = body, replies: list[Reply] = replies,
                         barrier: threading.Barrier = barrier) -> None:  # fmt: skip
                    api = Api(url)
                    barrier.wait(30)
                    replies.append(api.post("/api/v1/runs", {**dict(body), "product": str(number)}))  # type: ignore[call-overload]
                    api.close()

                threads = [
                    threading.Thread(target=race, args=(url, number))
                    for number, url in enumerate((one_url, two_url, one_url, two_url))
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(60)
                assert [reply.status for reply in replies] == [201] * 4
                assert len({reply.text for reply in replies}) == 1
                assert sum("idempotent-replayed" not in reply.headers for reply in replies) == 1


def test_p2_a_process_that_lags_behind_tells_an_old_run_as_known_whatever_start_it_is_sent_with(
    site: Site, tmp_path: Path
) -> None:
    nobody = f"ipc://{tmp_path}/nobody"
    lagging = ("--read-model", str(tmp_path / "second"), "--feed", nobody, "--refresh-ms", "3000")
    body = new_run(start_time="2019-05-01T00:00:00Z", product="first")
    with site.ingest("--window-ids", "1"):
        (first, one_url), (second, two_url) = site.query(), site.query(*lagging)
        with first, second, Producer(site.ingest_endpoint) as producer:
            writer, late = Api(one_url), Api(two_url)
            shown = writer.post("/api/v1/runs", body).json
            producer.flush()  # the worker's window has let go of it, and the second process has not seen it
            reply = late.post("/api/v1/runs", {**body, "start_time": "2021-01-01T00:00:00Z", "product": "second"})
            assert (reply.status, reply.json, reply.headers["idempotent-replayed"]) == (201, shown, "true")
            assert writer.ok("/api/v1/runs")["total"] == 1
            writer.close()
            late.close()
    assert one(site.catalog, "SELECT count(*) FROM run_changes") == 1


_FEW_DESCRIPTORS = """
import asyncio, os, resource, sys
from runlake.logs import Log
from runlake_query.delivery import IngestUnreachable
from runlake_query.gateway import Gateway

async def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gateway = Gateway(sys.argv[1], "p", Log("query"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    gateway.start()
    try:
        await gateway.deliver([b"\\x80"])
    except IngestUnreachable as error:
        print(error.detail, flush=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    (outcome,) = await gateway.deliver([b"\\x80"])
    print(bool(outcome.reason))
    await gateway.close()

asyncio.run(main())
"""


def test_without_enough_descriptors_the_gateway_says_so_and_connects_when_there_are(site: Site) -> None:
    with site.ingest():
        done = subprocess.run(
            [sys.executable, "-c", _FEW_DESCRIPTORS, site.ingest_endpoint],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused, connected = done.stdout.splitlines()
    assert "ulimit -n" in refused
    assert connected == "True"


def test_a_killed_worker_is_waited_for_and_the_books_have_no_gap(site: Site) -> None:
    query, url = site.query(caught_up=False)
    with query:
        with site.ingest() as ingest:
            query.wait_for("caught_up")
            api = Api(url)
            for _ in range(5):
                assert api.post("/api/v1/runs", new_run()).status == 201
            ingest.kill()
        with site.ingest():
            wait_until(lambda: api.post("/api/v1/runs", new_run()).status == 201, "the worker is back")
            (producer,) = [
                row for row in api.ok("/api/v1/producers")["producers"] if row["producer"].startswith("http-")
            ]
            assert producer["gaps"] == 0
            assert producer["received"] == producer["accepted"] == api.ok("/api/v1/runs")["total"]
            api.close()
