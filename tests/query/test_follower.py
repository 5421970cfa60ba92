"""The follower as a real process beside a real writer: it starts, tails, is killed, and comes back."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from typing import Any
from uuid import UUID

from support.api import Api, Start
from support.lakes import LakeWriter, Worker
from support.processes import Process, Site, wait_until


def position(*workers: Worker) -> str:
    return ",".join(f"{worker.id}:{worker.seq}" for worker in workers)


def everything(api: Api, *workers: Worker) -> Any:
    """All that can be asked, once the process reflects what the workers have flushed."""
    after = position(*workers)
    runs = api.ok("/api/v1/runs", after=after, limit=1000)
    return {
        "runs": runs,
        "events": {run["event_id"]: api.ok(f"/api/v1/runs/{run['event_id']}/events") for run in runs["runs"]},
        "rollup": api.ok("/api/v1/rollups", group_by="agent_name"),
        "producers": api.ok("/api/v1/producers"),
        "quarantine": api.ok("/api/v1/quarantine"),
    }


def some_history(worker: Worker, name: str) -> UUID:
    """A run with updates, events, loose events, and books."""
    before = worker.seq
    run = worker.start(name, cost_usd="0.25", metrics_json={"k": [1, "ü"]})
    worker.event(name, run, payload={"n": 1})
    worker.event(name)
    worker.update(run, status="success", duration_ms=1500)
    worker.delivery(f"producer-{worker.id}", before + 1, worker.seq - before, first_seq=before + 1)
    worker.refuse("p", f"no good: {name}", b"\x81", number=7, field="status")
    return run


def test_it_answers_from_a_lake_that_was_there_before_it(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    run = some_history(worker, "early")
    lake.flush(worker)
    _, api = start()
    reply = api.get("/api/v1/runs")
    assert [found["event_id"] for found in reply.json["runs"]] == [str(run)]
    assert reply.headers["runlake-position"] == position(worker)
    assert int(reply.headers["runlake-lag-ms"]) >= 0


def test_it_follows_what_is_flushed_later(lake: LakeWriter, start: Start) -> None:
    first, second = Worker(), Worker()
    some_history(first, "one")
    lake.flush(first)
    _, api = start()
    for number in range(5):
        some_history(first, f"more-{number}")
        some_history(second, f"other-{number}")
        lake.flush(first, second)
        seen = everything(api, first, second)
        assert seen["runs"]["total"] == 1 + 2 * (number + 1)
        assert seen["rollup"]["totals"]["events"] == 2 * seen["runs"]["total"]


def test_killed_at_any_time_it_resumes_with_the_same_answers(lake: LakeWriter, start: Start, site: Site) -> None:
    worker = Worker()
    for round_number in range(3):
        for number in range(6):
            some_history(worker, f"run-{round_number}-{number % 4}")
        process, api = start(caught_up=round_number > 0)
        lake.flush(worker)
        process.kill()  # while it copies, applies or answers
        process, api = start()
        resumed = everything(api, worker)
        process.kill()
    fresh_folder = site.data / "fresh"
    _, fresh = start("--read-model", str(fresh_folder))
    assert everything(fresh, worker) == resumed


def test_a_read_model_that_was_deleted_is_built_again(lake: LakeWriter, start: Start, site: Site) -> None:
    worker = Worker()
    some_history(worker, "a")
    lake.flush(worker)
    process, api = start()
    before = everything(api, worker)
    assert process.terminate() == 0
    shutil.rmtree(site.data / "query")
    _, api = start()
    assert everything(api, worker) == before


def test_a_read_model_that_is_damaged_is_set_aside_and_built_again(lake: LakeWriter, start: Start, site: Site) -> None:
    worker = Worker()
    some_history(worker, "a")
    lake.flush(worker)
    process, api = start()
    before = everything(api, worker)
    assert process.terminate() == 0
    model = site.data / "query" / "model.duckdb"
    model.write_bytes(b"\xff" * model.stat().st_size)
    process, api = start()
    assert everything(api, worker) == before
    assert process.wait_for("read_model_set_aside")["reason"]
    assert (site.data / "query" / "model.damaged.duckdb").exists()


def test_a_read_model_found_damaged_while_in_use_is_built_again_by_the_next_start(
    lake: LakeWriter, start: Start, site: Site
) -> None:
    worker = Worker()
    some_history(worker, "a")
    lake.flush(worker)
    process, api = start()
    before = everything(api, worker)
    assert process.terminate() == 0
    (site.data / "query" / "rebuild").touch()
    process, api = start()
    assert everything(api, worker) == before
    assert process.wait_for("read_model_set_aside")
    assert not (site.data / "query" / "rebuild").exists()


def test_a_read_model_of_another_version_is_built_again(lake: LakeWriter, start: Start, site: Site) -> None:
    import duckdb

    worker = Worker()
    some_history(worker, "a")
    lake.flush(worker)
    process, api = start()
    before = everything(api, worker)
    assert process.terminate() == 0
    with duckdb.connect(str(site.data / "query" / "model.duckdb")) as model:
        model.execute("UPDATE meta SET version = 'of another RunLake'")
    process, api = start()
    assert everything(api, worker) == before
    assert "another RunLake" in process.wait_for("read_model_set_aside")["reason"]


def test_before_there_is_a_lake_it_is_not_ready_and_says_so(site: Site, start: Start) -> None:
    process, api = start(caught_up=False)
    process.wait_for("lake_not_followed")
    for path in ("/ready", "/api/v1/runs", "/api/v1/runs/nobody", "/api/v1/rollups", "/api/v1/quarantine"):
        reply = api.get(path)
        assert reply.status == 503, path
        assert reply.headers["retry-after"]
        assert "no catalog" in reply.json["detail"]
    assert api.get("/health").status == 200
    with LakeWriter(site.data) as lake:
        process.wait_for("caught_up")
        assert api.get("/ready").status == 200
        assert api.ok("/api/v1/runs")["runs"] == []
        assert api.get("/api/v1/runs/nobody").status == 404
        worker = Worker()
        some_history(worker, "first")
        lake.flush(worker)
        assert everything(api, worker)["runs"]["total"] == 1


def test_while_the_catalog_is_away_reads_go_on_and_ready_says_why(lake: LakeWriter, start: Start, site: Site) -> None:
    worker = Worker()
    some_history(worker, "a")
    lake.flush(worker)
    process, api = start()
    away = site.data / "away.sqlite"
    lake.close()
    site.catalog.rename(away)
    wait_until(lambda: api.get("/ready").status == 503, "the process notices that the catalog is away")
    assert "no catalog" in api.get("/ready").json["detail"]
    assert api.ok("/api/v1/runs")["total"] == 1
    away.rename(site.catalog)
    wait_until(lambda: api.get("/ready").status == 200, "the process follows again")
    process.wait_for("following_again")
    assert len([line for line in process.log if line["event"] == "lake_not_followed"]) == 1


def test_a_catalog_that_cannot_be_read_is_told_once_and_tried_again(lake: LakeWriter, start: Start, site: Site) -> None:
    worker = Worker()
    some_history(worker, "a")
    lake.flush(worker)
    lake.close()
    whole = site.catalog.read_bytes()
    site.catalog.write_bytes(b"not a catalog" * 1000)
    process, api = start(caught_up=False)
    process.wait_for("lake_not_followed")
    assert api.get("/ready").status == 503
    replacement = site.data / "replacement.sqlite"
    replacement.write_bytes(whole)
    replacement.replace(site.catalog)
    process.wait_for("caught_up")
    assert api.ok("/api/v1/runs")["total"] == 1


def test_another_lake_under_the_same_name_replaces_what_was_known(site: Site, start: Start) -> None:
    worker, other = Worker(), Worker()
    with LakeWriter(site.data) as lake:
        some_history(worker, "of the first lake")
        lake.flush(worker)
        process, api = start()
        assert api.ok("/api/v1/runs")["total"] == 1
    for path in (site.catalog, site.data / "catalog.sqlite-wal", site.data / "catalog.sqlite-shm"):
        path.unlink(missing_ok=True)
    with LakeWriter(site.data) as lake:
        some_history(other, "of the second lake")
        lake.flush(other)
        runs = everything(api, other)["runs"]["runs"]
        assert [run["run_id"] for run in runs] == ["of the second lake"]
        assert process.wait_for("read_model_emptied")


def test_a_lake_restored_from_a_backup_takes_the_read_model_back(site: Site, start: Start) -> None:
    worker = Worker()
    with LakeWriter(site.data) as lake:
        some_history(worker, "kept")
        lake.flush(worker)
    backup = site.data / "backup.sqlite"
    source, target = sqlite3.connect(site.catalog), sqlite3.connect(backup)
    source.backup(target)
    source.close()
    target.close()
    with LakeWriter(site.data) as lake:
        some_history(worker, "lost")
        lake.flush(worker)
    process, api = start()
    assert api.ok("/api/v1/runs")["total"] == 2
    backup.replace(site.catalog)
    process.wait_for("read_model_emptied")
    wait_until(lambda: api.get("/ready").status == 200, "the read model is built anew")
    assert [run["run_id"] for run in api.ok("/api/v1/runs")["runs"]] == ["kept"]


def test_two_processes_do_not_share_one_folder(lake: LakeWriter, start: Start, site: Site) -> None:
    _, api = start()
    second = Process("runlake_query", "--data", str(site.data), "--http", "127.0.0.1:0")
    assert second.wait() == 1
    assert "Another query process uses" in "".join(second.text)
    with start("--read-model", str(site.data / "second"))[0]:
        assert api.get("/ready").status == 200


def test_a_wrong_setting_is_named_and_ends_with_status_2(site: Site) -> None:
    process = Process("runlake_query", "--data", str(site.data), "--http", "nowhere")
    assert process.wait() == 2
    assert "--http" in "".join(process.text)


def test_a_port_that_is_taken_ends_with_a_sentence(lake: LakeWriter, start: Start, site: Site) -> None:
    _, api = start()
    process = Process(
        "runlake_query", "--data", str(site.data), "--read-model", str(site.data / "x"), "--http", api.url[7:]
    )
    assert process.wait() == 1
    assert "Traceback" not in "".join(process.text)


def test_it_stops_cleanly_on_a_signal(lake: LakeWriter, start: Start, site: Site) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        process, _ = start()
        process.send(number)
        assert process.wait() == 0
        assert process.wait_for("stopped")
        assert not list((site.data / "query").glob("catalog-*"))


def test_the_zone_of_the_machine_changes_nothing(lake: LakeWriter, site: Site) -> None:
    worker = Worker()
    worker.start("a", start_time="2026-01-28T23:30:00Z", end_time="2026-01-29T00:00:00.5+00:00")
    lake.flush(worker)
    env = {"TZ": "America/New_York"}
    flags = ("--data", str(site.data), "--http", "127.0.0.1:0", "--refresh-ms", "10")
    with Process("runlake_query", *flags, env=env) as process:
        api = Api(f"http://{process.wait_for('listening')['http']}")
        (run,) = api.ok("/api/v1/runs", after=position(worker))["runs"]
        assert (run["start_time"], run["end_time"]) == ("2026-01-28T23:30:00Z", "2026-01-29T00:00:00.5Z")
        (row,) = api.ok("/api/v1/rollups", bucket="day")["rows"]
        assert row["bucket"] == "2026-01-28T00:00:00Z"
        api.close()


def test_a_read_waits_for_the_position_that_it_asks_for(lake: LakeWriter, start: Start) -> None:
    _, api = start()
    worker = Worker()
    for number in range(5):
        run = some_history(worker, f"run-{number}")
        lake.flush(worker)
        assert api.ok(f"/api/v1/runs/{run}", after=position(worker))["status"] == "success"
