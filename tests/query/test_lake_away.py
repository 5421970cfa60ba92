"""A catalog in PostgreSQL that is away, or does not answer: reads go on, what needs it is told so, nothing hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.api import Api, Reply
from support.contract import new_run, problem
from support.postgres import Postgres
from support.processes import Process, Site, wait_until
from support.streaming import Stream
from support.workers import Workers

SQL = "/api/v1/sql"
LONG_S = 25.0
"""A request that has not ended by then hangs."""
_AWAY = ("does not answer", "cannot be reached")
"""What is said of a catalog that is frozen: a question hangs, a connection is not made in time."""


class Place(NamedTuple):
    postgres: Postgres
    query: Process
    api: Api
    run: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Site]:
    found = Workers(tmp_path_factory.mktemp("away"), postgres.create_database()).site("one")
    with found.ingest("--flush-interval-ms", "300"):
        yield found


@pytest.fixture
def place(site: Site, postgres: Postgres, tmp_path: Path) -> Iterator[Place]:
    """A query process, and a run of which it knows that the lake has it."""
    query, url = site.query("--sql", "on", "--read-model", str(tmp_path))
    with query:
        api = Api(url)
        query.wait_for("feed_heard")
        run = new_run()
        assert api.post("/api/v1/runs", run).status == 201
        path = f"/api/v1/runs/{run['event_id']}"
        assert api.post(f"{path}/events", {"type": "old", "ts": "2020-01-01T00:00:00Z"}).status == 201
        wait_until(lambda: api.ok(f"{path}/history")["complete"], "the lake has it")
        yield Place(postgres, query, api, run["event_id"])
        api.close()


def at_once(place: Place) -> dict[str, Reply]:
    """The answers of all that reads the lake, all asked at the same time, each within the time of one."""
    run = f"/api/v1/runs/{place.run}"
    asked = {
        **dict.fromkeys((f"{run}/history", f"{run}/events", "/api/v1/quarantine", "/api/v1/lake"), None),
        SQL: {"sql": "SELECT count(*) FROM events"},
    }
    replies: dict[str, Reply] = {}

    def ask(path: str, body: object) -> None:
        api = Api(place.api.url)
        replies[path] = api.get(path) if body is None else api.post(path, body)
        api.close()

    threads = [threading.Thread(target=ask, args=one) for one in asked.items()]
    for thread in threads:
        thread.start()
    end = time.monotonic() + LONG_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    assert replies.keys() == asked.keys(), "nothing hangs"
    return replies


def serves(place: Place) -> None:
    """What needs no lake goes on, and sees what is written now."""
    api, body = place.api, new_run()
    total = api.ok("/api/v1/runs")["total"]
    made = api.post("/api/v1/runs", body)
    assert made.status == 201
    assert api.ok("/api/v1/runs", after=made.headers["runlake-position"])["total"] == total + 1
    assert api.ok("/api/v1/rollups")["totals"]["runs"] == total + 1


def is_back(place: Place) -> None:
    wait_until(lambda: place.api.ok("/ready")["lake_followed"], "the lake is followed again")
    assert {path: reply.status for path, reply in at_once(place).items() if reply.status != 200} == {}


def test_while_the_catalog_is_away_reads_go_on_and_what_needs_the_lake_is_503_with_a_reason(place: Place) -> None:
    place.postgres.stop()
    try:
        wait_until(lambda: not place.api.ok("/ready")["lake_followed"], "it is noticed")
        for reply in at_once(place).values():
            assert "from the lake" in problem(reply, 503)["detail"]
            assert int(reply.headers["retry-after"]) >= 1
        serves(place)
        position = place.api.get("/api/v1/runs").headers["runlake-position"]
        with Stream(place.api.url, last=position) as stream:
            assert "cannot be read" in stream.wait("lost")[0].data["reason"]
            assert place.api.post("/api/v1/runs", new_run()).status == 201
            assert stream.wait("run")
        ready = place.api.ok("/ready")
        assert (ready["status"], ready["feed_heard"]) == ("ready", True)
        assert "cannot be reached" in ready["reason"]
        assert place.postgres.password not in ready["reason"]
    finally:
        place.postgres.start()
    is_back(place)


def test_a_catalog_that_does_not_answer_keeps_nobody_waiting_for_long(place: Place) -> None:
    place.postgres.freeze()
    try:
        for reply in at_once(place).values():  # before anybody knows
            assert "from the lake" in problem(reply, 503)["detail"]
        serves(place)
        ready = place.api.ok("/ready")
        assert (ready["lake_followed"], ready["failures"]) == (False, 0)
        assert any(said in ready["reason"] for said in _AWAY)
    finally:
        place.postgres.thaw()
    is_back(place)
    place.postgres.freeze()
    try:
        wait_until(lambda: not place.api.ok("/ready")["lake_followed"], "it waits for the catalog")
        assert place.query.terminate() == 0, "nor does it keep the process from its end"
        assert {"stopped", "stopped_at_once"} & {line["event"] for line in place.query.log}
    finally:
        place.postgres.thaw()
