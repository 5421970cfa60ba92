"""What retention and forgetting take out of the lake leaves every answer, though no position tells of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgspec

from query.test_cost import Listed, add_list
from runlake_query.apply import Applier
from runlake_query.metadata import MetadataCache, list_metadata
from runlake_query.model import State
from runlake_query.newest import NewestPages
from runlake_query.parameters import Parameters
from runlake_query.points import Points
from runlake_query.reader import Snapshot
from runlake_query.removals import Removals, removals_in_lake
from runlake_query.runs import LIST_PARAMETERS, LIST_REPEATABLE, ListMemory, list_runs
from runlake_query.starttimes import StartTimes
from runlake_query.totals import Totals
from support.api import Start
from support.lakes import LakeWriter, Worker
from support.models import Model, lake_runs
from support.processes import Site, wait_until
from support.producer import Producer
from support.samples import started, updated
from support.streaming import Stream
from support.waiting import eventually

NOON = datetime(2026, 1, 28, 12, tzinfo=UTC)


REMOVE = """
    INSERT INTO lake.removals
    SELECT worker, run_event_id, max(seq), count(*), now(), '{why}'
    FROM (
        SELECT worker, run_event_id, seq FROM lake.run_changes UNION ALL
        SELECT worker, run_event_id, seq FROM lake.events
    )
    WHERE run_event_id = '{run}'
    GROUP BY ALL;
    DELETE FROM lake.run_changes WHERE run_event_id = '{run}';
    DELETE FROM lake.events WHERE run_event_id = '{run}'
"""
"""As maintenance does, in one transaction."""


def remove(lake: LakeWriter, run: UUID, why: str = "forgotten") -> None:
    lake.sql(f"BEGIN; {REMOVE.format(run=run, why=why)}; COMMIT")


def test_a_forgotten_run_is_in_no_answer_from_then_on(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    kept = worker.start("kept", agent_name="steady")
    gone = worker.start("gone", agent_name="gone-with-it")
    lake.flush(worker)
    _, api = start()
    before = api.get("/api/v1/runs/gone")
    assert before.status == api.get(f"/api/v1/runs/{gone}").status == 200
    assert api.ok("/api/v1/runs")["total"] == 2
    assert api.ok("/api/v1/metadata")["agent_names"] == ["gone-with-it", "steady"]
    with Stream(api.url) as stream:
        stream.wait("position")
        remove(lake, gone)
        wait_until(lambda: api.ok("/api/v1/rollups", measures="runs")["totals"]["runs"] == 1, "the removal is taken")
        assert stream.wait("lost")[0].data["reason"] == "runs were removed from the lake; read it anew"
    listed = api.get("/api/v1/runs")
    assert (listed.json["total"], [run["event_id"] for run in listed.json["runs"]]) == (1, [str(kept)])
    assert listed.headers["runlake-position"] == before.headers["runlake-position"]
    assert api.ok("/api/v1/metadata")["agent_names"] == ["steady"]
    for name in ("gone", str(gone)):
        assert api.get(f"/api/v1/runs/{name}").status == 404
        again = api.get(f"/api/v1/runs/{name}", headers={"If-None-Match": before.headers["etag"]})
        assert again.status == 404


async def test_a_total_at_the_same_position_is_counted_anew_when_runs_were_removed(
    lake: LakeWriter, tmp_path: Path
) -> None:
    worker = Worker()
    runs = [worker.start(f"r{number}") for number in range(3)]
    lake.flush(worker)
    memory = ListMemory(Totals(), NewestPages(), StartTimes(), lambda _ids, _positions: {})
    metadata = MetadataCache()

    def listed(snapshot: Snapshot) -> tuple[int, State]:
        metadata.keep(snapshot.state, list_metadata(snapshot))
        body = list_runs(snapshot, Parameters([], LIST_PARAMETERS, LIST_REPEATABLE), memory)
        return msgspec.json.decode(body)["total"], snapshot.state

    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        total, before = await model.reader.read(listed)
        assert total == 3
        assert metadata.at(before) is not None
        remove(lake, runs[1], "old")
        eventually(lambda: model.model.generation > before.generation)
        total, after = await model.reader.read(listed)
        assert (total, after.positions) == (2, before.positions)
        assert metadata.at(before) is None


async def test_costs_that_are_computed_anew_are_another_state_at_the_same_position(
    lake: LakeWriter, tmp_path: Path
) -> None:
    day = NOON - timedelta(days=30)
    add_list(lake, 1_000, [Listed("m", day, Decimal(1), Decimal(1))])
    worker = Worker()
    worker.start("r", model="m", input_tokens=1_000_000)
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)

        def cost(snapshot: Snapshot) -> tuple[str, State]:
            return str(snapshot.one("SELECT cost_usd::DOUBLE FROM shown")[0]), snapshot.state

        first, before = await model.reader.read(cost)
        add_list(lake, 1_001, [Listed("m", day, Decimal(2), Decimal(1))])
        eventually(lambda: model.model.generation > before.generation)
        second, after = await model.reader.read(cost)
        assert (first, second) == ("1.0", "2.0")
        assert (after.positions, after == before) == (before.positions, False)


async def test_a_run_is_read_anew_when_it_has_changed_and_no_position_tells_of_it(
    lake: LakeWriter, tmp_path: Path
) -> None:
    worker = Worker()
    run = worker.start("r", website="before.example")
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        points = Points(model.model, model.progress)
        try:
            cursor = model.model.cursor()
            for website in ("before.example", "after.example"):
                cursor.execute("UPDATE runs SET website = ?", [website])
                model.model.changed()
                for found in (await points.by_name("r"), await points.by_id(run), await points.by_name("r")):
                    assert found.run is not None
                    assert msgspec.json.decode(found.run.body)["website"] == website
        finally:
            points.close()


def outlive(lake: LakeWriter, worker: Worker, run: UUID) -> None:
    """In one transaction the run is removed, and another one of its event_id starts and is updated."""
    of_run = f"'{worker.id}', {{seq}}, now(), 'p', '{{kind}}', '{run}', '{run}', now(), 'r', 'a', 'j', now()"
    first, last = worker.seq + 1, worker.seq + 2
    columns = (
        "worker, seq, received_at, producer, kind, event_id, run_event_id, ts, run_id, agent_name, job_type, start_time"
    )
    lake.sql(
        f"""
        BEGIN;
        {REMOVE.format(run=run, why="old")};
        INSERT INTO lake.run_changes ({columns}, product) VALUES
            ({of_run.format(seq=first, kind="run.started")}, 'first'),
            ({of_run.format(seq=last, kind="run.updated")}, 'second');
        INSERT INTO lake.flushes VALUES ('{worker.id}', {worker.segment + 1}, {first}, {last}, now());
        COMMIT
        """
    )
    worker.seq = worker.flushed = last
    worker.segment += 1


def test_what_was_removed_of_a_run_leaves_what_has_come_of_it_since(lake: LakeWriter, tmp_path: Path) -> None:
    worker = Worker()
    run = worker.start("r", website="removed.example", commit_hash="abcdef0")
    worker.event("r", run)
    other = worker.start("other", website="kept.example")
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        outlive(lake, worker, run)
        model.caught_up(worker)
        eventually(lambda: model.model.generation)
        expected = [(run, None, "second", 0, None), (other, "kept.example", None, 0, None)]
        query = "SELECT event_id, website, product, events, first_event_at FROM runs ORDER BY start_time DESC"
        assert model.rows(query) == expected
        assert model.rows("SELECT count(*) FROM associations") == [(0,)]
        assert model.shown() == lake_runs(lake)


def test_a_run_is_folded_anew_when_the_lake_has_all_that_has_come_of_it(lake: LakeWriter, tmp_path: Path) -> None:
    worker = Worker()
    run = worker.start("r", website="removed.example")
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        outlive(lake, worker, run)
        model.caught_up(worker)
        eventually(lambda: model.model.generation)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        eventually(lambda: model.model.generation)
        cursor, told = model.model.cursor(), list[str]()
        removals = Removals(Applier(cursor), lambda: told.append("changed"))
        cursor.execute("UPDATE runs SET website = 'removed.example'")  # as it was stored before it was noticed
        cursor.execute("UPDATE positions SET lake_seq = 2")
        website = "SELECT website FROM runs"
        with model.copies.borrow() as copy:
            found = removals_in_lake(cursor, copy.name)
            removals.apply(found, copy.name)
            assert model.rows(website) == [("removed.example",)]
            assert removals.apply(found, copy.name) == 0
            cursor.execute("UPDATE positions SET lake_seq = seq")
            cursor.execute("INSERT INTO positions VALUES (uuid(), 9, 1, 1, 1)")  # another worker, which is busy
            assert removals.apply(found, copy.name) == 1
            cursor.execute("DELETE FROM positions WHERE seq > lake_seq")
            assert model.rows(website) == [(None,)]
            assert removals.apply(found, copy.name) == 0
        assert told == ["changed"] * 2


def test_a_change_that_was_fed_and_not_flushed_outlives_the_removal_of_its_run(
    site: Site, lake: LakeWriter, tmp_path: Path
) -> None:
    run = started("r", website="removed.example")
    with (
        site.ingest("--flush-interval-ms", "600000", "--maintenance-interval-ms", "0") as worker,
        Producer(site.ingest_endpoint) as producer,
        Model(site, tmp_path / "model", feed=site.feed_endpoint) as model,
    ):
        ack = producer.deliver([run])
        producer.flush()
        model.confirmed({ack.worker: 1})
        producer.deliver([updated(run.event_id, product="second")])
        eventually(lambda: model.rows("SELECT product FROM runs") == [("second",)])
        remove(lake, run.event_id)
        eventually(lambda: model.model.generation)
        assert model.rows("SELECT seq > lake_seq FROM positions") == [(True,)]
        assert model.rows("SELECT product FROM runs") == [("second",)]
        producer.flush()
        eventually(lambda: model.rows("SELECT product, website FROM runs") == [("second", None)])
        assert worker.terminate() == 0
        (segment,) = lake.sql("SELECT max(segment) FROM lake.flushes")[0]
        of_run = f"'{ack.worker}', 3, now(), 'p', 'run.started', '{run.event_id}', '{run.event_id}', now()"
        lake.sql(
            f"""
            BEGIN;
            INSERT INTO lake.run_changes (
                worker, seq, received_at, producer, kind, event_id, run_event_id, ts, run_id, agent_name, job_type,
                start_time
            ) VALUES ({of_run}, 'r', 'a', 'j', now());
            INSERT INTO lake.flushes VALUES ('{ack.worker}', {segment + 1}, 3, 3, now());
            COMMIT
            """
        )
        eventually(lambda: len(model.shown()) == 1)
        assert model.shown() == lake_runs(lake)
        assert model.rows("SELECT product, website FROM runs") == [("second", None)]
