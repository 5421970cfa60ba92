"""A running worker looks after its lake: seen on its metrics page, in its log, and by readers who hold an old copy."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from ingest.test_metricspage import numbers, page
from support.api import Api
from support.processes import Process, Site, wait_until
from support.producer import Producer
from support.reading import assert_stored_once, lake_copy, one, rows
from support.samples import event, started

OFTEN = ("--maintenance-interval-ms", "50")
KEEP_NOTHING = (*OFTEN, "--maintenance-keep-s", "1")


def told(worker: Process, name: str) -> float:
    api = page(worker)
    try:
        return numbers(api)[f"runlake_ingest_maintenance_{name}"]
    finally:
        api.close()


def flush_small(producer: Producer, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        producer.deliver([event(number)])
        producer.flush()


def test_many_small_flushes_leave_few_files_and_nothing_is_lost(site: Site) -> None:
    def files() -> int:
        return len(list((site.data / "lake").rglob("*.parquet")))

    with site.ingest(*KEEP_NOTHING) as worker, Producer(site.ingest_endpoint) as producer:
        at_first = files()
        flush_small(producer, 40)
        wait_until(lambda: files() <= at_first + 16, "few files are left")
        assert told(worker, "merged_files_total") >= 40
        wait_until(lambda: told(worker, "removed_files_total") >= 40, "they are counted")
        assert told(worker, "flushes_moved_total") >= 32
        assert told(worker, "expired_snapshots_total") >= 40
        wait_until(lambda: 0 < told(worker, "lake_files") <= at_first + 16, "the lake is looked at")
        assert told(worker, "lake_bytes") > 0 and told(worker, "catalog_bytes") > 0
        assert (told(worker, "failures_total"), told(worker, "failing")) == (0, 0)
        line = worker.wait_for("maintenance")
        assert line["files"] > 0 and line["ms"] >= 0
        assert worker.terminate() == 0
    assert_stored_once(site.catalog, 40)


def test_a_reader_with_an_old_copy_reads_on_while_files_are_merged(site: Site) -> None:
    with site.ingest(*OFTEN) as worker, Producer(site.ingest_endpoint) as producer:
        flush_small(producer, 6)
        with lake_copy(site.catalog) as old:
            old.execute("BEGIN")
            assert old.execute("SELECT count(*) FROM events").fetchone() == (6,)
            flush_small(producer, 20, first=6)
            wait_until(lambda: told(worker, "merged_files_total") >= 16, "files were merged")
            found = old.execute("SELECT payload->>'number' FROM events ORDER BY seq").fetchall()
            assert [int(number) for (number,) in found] == list(range(6))
        assert one(site.catalog, "SELECT count(*) FROM events") == 26
        assert told(worker, "removed_files_total") == told(worker, "expired_snapshots_total") == 0


def test_a_reader_whose_files_are_gone_is_told_so_and_gets_no_wrong_rows(site: Site) -> None:
    with site.ingest(*KEEP_NOTHING), Producer(site.ingest_endpoint) as producer:
        flush_small(producer, 6)
        files = [Path(name) for (name,) in rows(site.catalog, "SELECT DISTINCT filename FROM events")]
        with lake_copy(site.catalog) as old:
            flush_small(producer, 6, first=6)
            wait_until(lambda: not any(file.exists() for file in files), "merged files were removed")
            with pytest.raises(duckdb.IOException, match="No such file"):
                old.execute("SELECT payload FROM events").fetchall()
        assert one(site.catalog, "SELECT count(payload) FROM events") == 12


def test_query_answers_from_the_lake_while_files_are_merged_and_removed(site: Site) -> None:
    run = started("old", started().start_time.replace(year=2020))
    happenings = [event(number, "old", run.start_time) for number in range(30)]
    longer_than_a_read = ("--maintenance-keep-s", "10")
    with site.ingest(*OFTEN, *longer_than_a_read) as worker, Producer(site.ingest_endpoint) as producer:
        producer.deliver([run])
        query, url = site.query()
        with query:
            api = Api(url)
            for count, happening in enumerate(happenings, 1):
                producer.deliver([happening])
                producer.flush()
                found = api.ok("/api/v1/runs/old/events", after=f"{worker.wait_for('ready')['worker']}:{count + 1}")
                assert [item["payload"]["number"] for item in found] == list(range(count))
            wait_until(lambda: told(worker, "removed_files_total") >= 24, "merged files were removed")
            assert len(api.ok("/api/v1/runs/old/events")) == 30
            assert [line for line in query.log if line["level"] in ("warning", "error")] == []
            api.close()
            assert query.terminate() == 0


def test_a_worker_with_maintenance_off_leaves_all_files(site: Site) -> None:
    with site.ingest("--maintenance-interval-ms", "0") as worker, Producer(site.ingest_endpoint) as producer:
        flush_small(producer, 10)
        assert len(list((site.data / "lake" / "main" / "events").iterdir())) == 10
        assert told(worker, "cycles_total") == 0
