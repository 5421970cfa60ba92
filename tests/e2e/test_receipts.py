"""The books of an agent and those of the worker are the same, and what never came shows as a gap."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import runlake
from runlake.messages import Message
from support.api import Api
from support.processes import Site, wait_until
from support.producer import Producer
from support.samples import event, events, started


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def api(site: Site) -> Iterator[Api]:
    with site.ingest() as ingest:
        ingest.wait_for("ready")
        process, url = site.query()
        with process:
            api = Api(url)
            yield api
            api.close()


def books(api: Api, producer: str) -> dict[str, Any]:
    """What the worker's side says of a producer."""
    found = [row for row in api.ok("/api/v1/producers")["producers"] if row["producer"] == producer]
    assert len(found) == 1
    return {name: found[0][name] for name in ("received", "accepted", "duplicate", "rejected", "gaps")}


def test_p3_what_an_emitter_says_of_itself_is_what_the_worker_says_of_it(site: Site, api: Api, tmp_path: Path) -> None:
    emitter = runlake.Emitter(endpoint=site.ingest_endpoint, spool=str(tmp_path / "spool"))
    try:
        run = started("r")
        messages: list[Message] = [run, *events(700, "r"), event(1, "r")]
        for message in messages:
            emitter.emit(message)
        for message in messages[:30]:  # the same again
            emitter.emit(message)
        for number in range(5):  # no run_id: the worker refuses it
            emitter.emit(structs.replace(event(number), run_id=""))
        assert emitter.flush(30)
        stats = emitter.stats()
        assert (stats.emitted, stats.acknowledged, stats.queued, stats.dropped) == (737, 737, 0, {})
        assert (stats.accepted, stats.duplicates, stats.rejected) == (702, 30, 5)
        assert stats.last_rejections[-1].field == "run_id"
        wait_until(lambda: api.ok("/api/v1/producers")["total"] > 0, "the books are there")
        wait_until(lambda: books(api, stats.producer)["received"] == 737, "all of it is in the books")
        assert books(api, stats.producer) == {
            "received": stats.acknowledged,
            "accepted": stats.accepted,
            "duplicate": stats.duplicates,
            "rejected": stats.rejected,
            "gaps": 0,
        }
        command = [sys.executable, "-m", "runlake.cli", "producers", "--http", api.url.removeprefix("http://")]
        printed = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)
        assert printed == api.ok("/api/v1/producers")
    finally:
        emitter.close(5)


def test_p3_numbers_that_never_came_are_gaps_in_the_books(site: Site, api: Api) -> None:
    with Producer(site.ingest_endpoint) as producer:
        producer.deliver(events(10))
        producer.number += 4  # four messages that were lost on the way
        producer.deliver(events(6))
        wait_until(lambda: api.ok("/api/v1/producers")["total"] > 0, "the books are there")
        wait_until(lambda: books(api, producer.name)["received"] == 16, "all of it is in the books")
        assert books(api, producer.name) == {"received": 16, "accepted": 16, "duplicate": 0, "rejected": 0, "gaps": 4}
