"""`GET /api/v1/producers` and `GET /api/v1/quarantine`."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runlake_query.books import PRODUCER_PARAMETERS, list_producers
from runlake_query.parameters import Parameters
from support.api import Start
from support.lakes import LakeWriter, Worker, at
from support.models import Model
from support.processes import wait_until


def books(found: Any) -> dict[str, tuple[int, ...]]:
    names = ("received", "accepted", "duplicate", "rejected", "gaps")
    return {producer["producer"]: tuple(producer[name] for name in names) for producer in found["producers"]}


def test_p3_the_books_of_each_producer_balance_and_show_gaps(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    worker.seq = 100
    worker.delivery("steady", 1, 10, first_seq=1, received_at=at(1))
    worker.delivery("steady", 11, 8, duplicate=1, rejected=1, first_seq=11, received_at=at(2.5))
    worker.delivery("lossy", 1, 5, first_seq=19)
    worker.delivery("lossy", 9, 2, first_seq=24)
    worker.delivery("late", 4, 1, first_seq=26)
    worker.delivery("resending", 1, 5, first_seq=27)
    worker.delivery("resending", 1, 0, duplicate=5, first_seq=32)
    worker.delivery("resending", 3, 2, duplicate=3, first_seq=32)
    worker.delivery("bare", None, 7, rejected=2, first_seq=34)
    lake.flush(worker)
    _, api = start()
    found = api.ok("/api/v1/producers")
    assert books(found) == {
        "steady": (20, 18, 1, 1, 0),
        "lossy": (7, 7, 0, 0, 3),
        "late": (1, 1, 0, 0, 3),
        "resending": (15, 7, 8, 0, 0),
        "bare": (9, 7, 0, 2, 0),
    }
    assert found["total"] == 5
    (steady,) = (producer for producer in found["producers"] if producer["producer"] == "steady")
    assert steady["worker"] == str(worker.id)
    assert (steady["first_seen"], steady["last_seen"]) == ("2026-01-28T10:30:01Z", "2026-01-28T10:30:02.5Z")
    paged = [api.ok("/api/v1/producers", limit=2, offset=offset)["producers"] for offset in (0, 2, 4)]
    assert [len(page) for page in paged] == [2, 2, 1]
    assert [producer for page in paged for producer in page] == found["producers"]


def test_batches_without_anything_to_accept_are_counted_once_whenever_they_come(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    worker.start("r")
    worker.delivery("p", 1, 1, first_seq=1)
    worker.delivery("p", 1, 0, duplicate=1)  # nothing to accept, at the end of a segment
    lake.flush(worker)
    process, api = start()
    assert books(api.ok("/api/v1/producers")) == {"p": (2, 1, 1, 0, 0)}
    worker.delivery("p", 2, 0, rejected=3)  # a whole segment without anything to accept
    lake.flush(worker)
    process.kill()
    process, api = start()
    assert books(api.ok("/api/v1/producers")) == {"p": (5, 1, 1, 3, 0)}
    worker.delivery("p", 5, 1)
    worker.start("s")
    lake.flush(worker)
    position = f"{worker.id}:{worker.seq}"
    assert books(api.ok("/api/v1/producers", after=position)) == {"p": (6, 2, 1, 3, 0)}


@settings(max_examples=5, deadline=None)
@given(ranges=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2)), min_size=1, max_size=30))
def test_gaps_are_the_numbers_that_did_not_come(tmp_path_factory: Any, ranges: list[tuple[int, int, int]]) -> None:
    folder: Path = tmp_path_factory.mktemp("gaps")
    worker = Worker()
    with LakeWriter(folder) as lake, Model(lake, folder / "model") as model:
        came: set[int] = set()
        for number, (first, count, accepted) in enumerate(ranges):
            worker.delivery("p", first, min(count, accepted), duplicate=count - min(count, accepted))
            worker.seq += min(count, accepted)
            came.update(range(first, first + count))
            if number % 10 == 9:
                lake.flush(worker)
        lake.flush(worker)
        model.caught_up(worker)

        def listed() -> Any:
            parameters = Parameters([], PRODUCER_PARAMETERS)
            return books(json.loads(model.read(lambda snapshot: list_producers(snapshot, parameters))))

        received = sum(count for _, count, _ in ranges)
        wait_until(lambda: listed().get("p", (0,))[0] == received, "all deliveries are applied")
        assert listed()["p"] == (received, worker.seq, received - worker.seq, 0, max(came) - len(came))


def test_refused_messages_come_newest_first_with_all_that_is_known(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    worker.refuse("p", "status: is not known", b"\x00\xff", at(1), field="status", batch=3, number=17)
    worker.refuse("q", "cannot be read", b"", at(2), messages=500)
    lake.flush(worker)
    _, api = start()
    found = api.ok("/api/v1/quarantine")
    assert (found["total"], found["messages"], found["next_cursor"]) == (2, 501, None)
    identity = found["quarantine"][1]["id"]
    assert found["quarantine"][1] == {
        "id": identity, "received_at": "2026-01-28T10:30:01Z", "worker": str(worker.id),
        "producer": "p", "batch": 3, "number": 17, "messages": 1, "field": "status", "reason": "status: is not known",
        "raw": base64.b64encode(b"\x00\xff").decode(),
    }  # fmt: skip
    assert found["quarantine"][0]["producer"] == "q"
    assert api.ok(f"/api/v1/quarantine/{identity}") == found["quarantine"][1]
    assert api.get("/api/v1/quarantine/" + "0" * 32).status == 404


def test_pages_of_quarantine_are_all_of_it_though_many_came_at_once(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    for number in range(17):
        worker.refuse("p", "no", bytes([number]), at(number // 8))
    for _ in range(3):
        worker.refuse("p", "the same", b"", at(0))
    lake.flush(worker)
    _, api = start()
    whole = api.ok("/api/v1/quarantine")["quarantine"]
    assert len(whole) == 20
    pages: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.ok("/api/v1/quarantine", limit=3, **cursor)
        pages += page["quarantine"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert pages == whole
