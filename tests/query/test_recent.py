"""Recent runs: in memory as they go out, bounded, and never older than they say."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from runlake.messages import RunStarted
from runlake_query.points import Points
from runlake_query.recent import Created, Recent, RecentRun
from support.lakes import LakeWriter, Worker
from support.models import Model
from support.processes import Site, wait_until
from support.producer import Producer
from support.samples import started, updated

WORKER = UUID(int=1)


def run(number: int, run_id: str = "r", at: int = 0, body: bytes = b"{}") -> RecentRun:
    created: Created = (at or number, number, str(UUID(int=number)))
    return RecentRun(UUID(int=number), run_id, 0, created, body)


def known(recent: Recent, name: str | UUID) -> int | None:
    found = recent.get(name)
    return found[0].event_id.int if found else None


@pytest.fixture
def recent() -> Recent:
    recent = Recent(max_runs=3)
    recent.restart((10, 2**63, ""))
    return recent


def test_a_run_is_known_by_its_event_id_and_by_its_run_id(recent: Recent) -> None:
    recent.changed([run(11, "a")], {WORKER: 5})
    recent.confirmed(str(UUID(int=11)), UUID(int=11), {WORKER: 5})
    assert known(recent, UUID(int=11)) == known(recent, "a") == known(recent, str(UUID(int=11))) == 11
    found = recent.get("a")
    assert found
    assert found[1] == {WORKER: 5}
    assert known(recent, "b") is None


def test_an_event_id_as_a_name_is_known_only_once_sql_has_said_that_no_run_has_that_run_id(recent: Recent) -> None:
    key = UUID(int=11)
    recent.changed([run(11, "a")], {WORKER: 5})
    assert known(recent, str(key)) is None, "a run that came before this process looked may have it as its run_id"
    recent.confirmed(str(key), key, {WORKER: 4})
    assert known(recent, str(key)) is None, "SQL did not know everything yet"
    recent.confirmed(str(key), key, {WORKER: 5})
    recent.changing([key])
    recent.changed([run(11, "a")], {WORKER: 6})
    assert known(recent, str(key)) == 11
    recent.changed([run(12, str(key))], {WORKER: 7})
    assert known(recent, str(key)) == 12


def test_what_was_forgotten_since_makes_what_sql_has_said_of_a_name_void(recent: Recent) -> None:
    key = UUID(int=11)
    recent.changed([run(11, "a")], {WORKER: 5})
    recent.changed([run(12, str(key))], {WORKER: 6})
    recent.changed([run(11, "a"), run(13, "c"), run(14, "d")], {WORKER: 7})  # 12 goes
    recent.confirmed(str(key), key, {WORKER: 5})
    assert known(recent, str(key)) is None


def test_a_run_id_means_the_most_recently_created_run_whatever_changed_last(recent: Recent) -> None:
    recent.changed([run(12), run(11)], {WORKER: 5})
    assert known(recent, "r") == 12
    recent.changed([run(11)], {WORKER: 6})
    assert known(recent, "r") == 12


def test_a_run_from_before_this_process_looked_does_not_decide_what_its_run_id_means(recent: Recent) -> None:
    recent.changed([run(9)], {WORKER: 5})
    assert known(recent, UUID(int=9)) == 9
    assert known(recent, "r") is None
    assert known(recent, str(UUID(int=9))) is None


def test_those_that_changed_least_recently_go_and_leave_their_name_to_no_older_run(recent: Recent) -> None:
    recent.changed([run(11), run(13), run(12, "s"), run(11)], {WORKER: 5})
    recent.changed([run(14, "t"), run(15, "u")], {WORKER: 6})
    assert known(recent, UUID(int=13)) is None
    assert known(recent, "r") is None
    recent.changed([run(11)], {WORKER: 7})
    assert known(recent, "r") is None, "13 was created later, and is in the read model"
    recent.changed([run(16)], {WORKER: 8})
    assert known(recent, "r") == 16


def test_bytes_are_bounded_too() -> None:
    recent = Recent(max_bytes=100)
    recent.changed([run(number, body=b"x" * 40) for number in (1, 2, 3)], {})
    assert [known(recent, UUID(int=number)) for number in (1, 2, 3)] == [None, 2, 3]


def test_a_run_that_is_being_changed_is_not_answered_from_here(recent: Recent) -> None:
    recent.changed([run(11), run(12, "s")], {WORKER: 5})
    recent.changing([UUID(int=11)])
    assert known(recent, "r") is known(recent, UUID(int=11)) is None
    assert known(recent, "s") == 12
    recent.changed([run(11)], {WORKER: 6})
    assert known(recent, "r") == 11


def test_bodies_are_of_exactly_the_positions_that_were_asked_for(recent: Recent) -> None:
    recent.changed([run(11, body=b"11"), run(12, body=b"12")], {WORKER: 5})
    ids = [UUID(int=number) for number in (12, 11, 13)]
    assert recent.bodies(ids, {WORKER: 5}) == {UUID(int=12): b"12", UUID(int=11): b"11"}
    assert recent.bodies(ids, {WORKER: 4}) == recent.bodies(ids, {WORKER: 6}) == recent.bodies(ids, {}) == {}
    recent.changing([UUID(int=11)])
    assert recent.bodies(ids, {WORKER: 5}) == {UUID(int=12): b"12"}
    recent.changed([run(11, body=b"new")], {WORKER: 6})
    assert recent.bodies(ids, {WORKER: 5}) == {}
    assert recent.bodies(ids, {WORKER: 6}) == {UUID(int=12): b"12", UUID(int=11): b"new"}


async def test_a_recent_run_costs_no_sql_and_is_what_sql_says(lake: LakeWriter, tmp_path: Path) -> None:
    worker = Worker()
    worker.start("before")
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        key = worker.start("r", cost_usd="0.25", metrics_json={"k": [1, "ü"]}, end_time="2026-01-28T11:00:00Z")
        worker.event("r", key)
        worker.update(key, status="success")
        lake.flush(worker)
        model.caught_up(worker)
        by_sql, points = Points(model.model, model.progress), Points(model.model, model.progress, model.recent)
        expected = [await by_sql.by_name("r"), await by_sql.by_id(key)]
        by_sql.close()
        assert await points.by_name(str(key)) == expected[0]  # by SQL, which says that no other run has this run_id
        points.close()  # from here on, it has no thread that a query could run on
        assert [await points.by_name("r"), await points.by_id(key)] == expected
        assert await points.by_name(str(key)) == expected[0]
        assert expected[0].run
        with pytest.raises(RuntimeError):
            await points.by_name("before")


async def test_an_event_id_that_is_the_run_id_of_an_older_run_means_that_one_in_memory_as_in_sql(
    lake: LakeWriter, tmp_path: Path
) -> None:
    worker, key = Worker(), uuid4()
    older = worker.start(str(key))
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        worker.start("another", key)
        lake.flush(worker)
        model.caught_up(worker)
        by_sql, points = Points(model.model, model.progress), Points(model.model, model.progress, model.recent)
        for _ in range(2):
            for name in (str(key), "another", str(older)):
                assert await points.by_name(name) == await by_sql.by_name(name)
        found = await points.by_name(str(key))
        by_sql.close()
        points.close()
        assert found.run
        assert found.run.event_id == older


def test_another_lake_leaves_nothing_behind(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with LakeWriter(site.data) as lake:
        worker = Worker()
        lake.flush(worker)
        with Model(lake, tmp_path / "model") as model:
            model.caught_up(worker)
            key = worker.start("r")
            lake.flush(worker)
            model.caught_up(worker)
            assert model.recent.get(key)
            lake.close()
            for path in (site.catalog, site.data / "catalog.sqlite-wal", site.data / "catalog.sqlite-shm"):
                path.unlink(missing_ok=True)
            with LakeWriter(site.data) as other:
                other.flush(Worker())
                wait_until(lambda: model.recent.get(key) is None, "the run of the other lake is forgotten")


class _Hammer:
    """Reads without a pause, on threads, until it is closed; keeps what was wrong."""

    def __init__(self, reads: int) -> None:
        self.wrong: list[str] = []
        self.read = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(reads)]

    def look(self) -> str:
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stop.is_set():
            found = self.look()
            self.read += 1
            if found:
                self.wrong.append(found)
                return

    def __enter__(self) -> _Hammer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def fed(site: Site, tmp_path: Path) -> Iterator[Model]:
    with site.ingest("--flush-interval-ms", "300"), Model(site, tmp_path / "fed", feed=site.feed_endpoint) as model:
        yield model


def test_p5_under_load_no_answer_is_older_than_its_position_says_or_than_one_before_it(fed: Model, site: Site) -> None:
    runs = [uuid4() for _ in range(5)]
    said: dict[UUID, list[tuple[int, int]]] = defaultdict(list)
    """For each run the position and number of every update that was acknowledged, in order."""
    with Producer(site.ingest_endpoint) as producer:
        ack = producer.deliver([_started(key) for key in runs])
        fed.reached({ack.worker: ack.first_seq + 4})

        class Readers(_Hammer):
            def look(self) -> str:
                for key in runs:
                    acknowledged = list(said[key])
                    cursor = fed.model.cursor()
                    before = cursor.execute("SELECT items_found FROM (SELECT items_succeeded AS items_found FROM runs"
                                            " WHERE event_id = $key::UUID)", {"key": str(key)}).fetchone()  # fmt: skip
                    cursor.close()
                    found = fed.recent.get(key)
                    if found is None:
                        continue
                    number = json.loads(found[0].body)["items_succeeded"] or 0
                    promised = max((n for seq, n in acknowledged if seq <= found[1].get(ack.worker, 0)), default=0)
                    if number < promised:
                        return f"{number} at {found[1]}, which is {promised}"
                    if before and (before[0] or 0) > number:
                        return f"{number}, and SQL had said {before[0]} before"
                return ""

        with Readers(3) as readers:
            for number in range(1, 150):
                key = runs[number % len(runs)]
                ack = producer.deliver([updated(key, items_succeeded=number)])
                said[key].append((ack.first_seq, number))
            fed.reached({ack.worker: ack.first_seq})
            hits = fed.recent.hits
            wait_until(lambda: fed.recent.hits > hits + 20, "they go on reading")
        assert readers.wrong == []
        assert readers.read > 20
        for key in runs:
            found = fed.recent.get(key)
            assert found
            assert json.loads(found[0].body)["items_succeeded"] == said[key][-1][1]


def _started(key: UUID) -> RunStarted:
    return structs.replace(started(f"run-{key}"), event_id=key)
