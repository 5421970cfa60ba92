"""A worker that is retired without its journal: what its feed had told, and the lake never gets, is nowhere at last."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from uuid import UUID

import pytest

from query.test_feed_random import TABLES, messages
from runlake.homes import home_key, home_of
from support.download import download
from support.lakes import LakeWriter, Worker
from support.models import Model
from support.processes import Site, wait_until
from support.producer import Producer
from support.workers import Workers

NEVER = ("--flush-interval-ms", "600000")
"""Nothing goes to the lake by itself."""


def all_rows(model: Model) -> dict[str, list[str]]:
    """Without whose change a run's last one was: of a run that has moved, it is any worker's."""
    tables = TABLES | {"runs": "* EXCLUDE (worker)"}
    return {
        table: sorted(row[0] for row in model.rows(f"SELECT r::VARCHAR FROM (SELECT {columns} FROM {table}) AS r"))
        for table, columns in tables.items()
    }


def number_on(lake: LakeWriter, at: int, *workers: UUID) -> None:
    """As a worker does that puts a new list in force."""
    for worker in workers:
        lake.sql(
            f"INSERT INTO lake.flushes SELECT '{worker}', coalesce(max(segment), 0), {at} + 1, {at}, now()"
            f" FROM lake.flushes WHERE worker = '{worker}'"
        )


@pytest.mark.parametrize("away", [False, True], ids=["beside it", "away meanwhile"])
@pytest.mark.parametrize("further", [1, 5_000], ids=["numbers that were lost", "greater numbers"])
def test_p4_who_had_heard_what_is_lost_ends_as_who_had_not(
    further: int, away: bool, site: Site, tmp_path: Path
) -> None:
    dice = random.Random(further)
    runs = [UUID(int=dice.getrandbits(128), version=4) for _ in range(12)]
    model = Model(site, tmp_path / "heard", feed=site.feed_endpoint)
    with site.ingest(*NEVER) as ingest, Producer(site.ingest_endpoint) as producer:
        model.__enter__()
        try:
            producer.deliver(messages(dice, runs[:8], 60))
            at = producer.flush()
            model.confirmed({at.worker: at.accepted})
            before = all_rows(model)
            for _ in range(5):
                ack = producer.deliver(messages(dice, runs, 12))
            model.reached({at.worker: ack.first_seq + ack.accepted - 1})
            assert all_rows(model) != before
            if away:
                model.__exit__(None, None, None)
            ingest.kill()
            shutil.rmtree(site.data / "ingest")
            with LakeWriter(site.data) as lake:
                other, jump = Worker(), at.accepted + further
                number_on(lake, jump, at.worker, other.id)
                other.seq = other.flushed = jump
                for run in runs[::2]:
                    other.update(run, items_failed=3, product="moved")
                    other.event(f"run-{run.int % 5}", run)
                lake.flush(other)
            if away:
                model = Model(site, tmp_path / "heard", feed=site.feed_endpoint)
                model.__enter__()
            ends = {at.worker: jump, other.id: other.seq}
            model.confirmed(ends)
            assert model.log.getvalue().count("lost_messages_removed") == 1
            with Model(site, tmp_path / "anew") as anew:
                anew.confirmed(ends)
                wait_until(lambda: all_rows(model) == all_rows(anew), "both are equal")
                assert model.shown() == anew.shown()
        finally:
            model.__exit__(None, None, None)


def test_what_was_heard_of_it_and_did_not_follow_yet_is_not_applied_behind_what_was_lost(
    site: Site, tmp_path: Path
) -> None:
    dice = random.Random(7)
    runs = [UUID(int=dice.getrandbits(128), version=4) for _ in range(4)]
    with site.ingest(*NEVER) as ingest, Producer(site.ingest_endpoint) as producer:
        producer.deliver(messages(dice, runs, 6))
        at = producer.flush()
        producer.deliver(messages(dice, runs, 1))  # nobody hears it
        with Model(site, tmp_path / "heard", feed=site.feed_endpoint) as model:
            model.confirmed({at.worker: at.accepted})
            wait_until(lambda: at.worker in model.progress.heard_workers, "its feed is heard")
            for _ in range(4):
                producer.deliver(messages(dice, runs, 3))
            wait_until(lambda: "feed_gap" in model.log.getvalue(), "it does not follow")
            ingest.kill()
            with LakeWriter(site.data) as lake:
                number_on(lake, at.accepted + 1, at.worker)
                model.confirmed({at.worker: at.accepted + 1})
                with Model(site, tmp_path / "anew") as anew:
                    anew.confirmed({at.worker: at.accepted + 1})
                    assert all_rows(model) == all_rows(anew)


def test_p4_query_processes_export_the_same_bytes_after_a_worker_was_retired_with_its_journal_lost(
    tmp_path: Path, database: str
) -> None:
    workers = Workers(tmp_path, database)
    sites = [workers.site(name) for name in ("a", "b", "q1", "q2")]
    a, b, *readers = sites
    with a.ingest() as first, b.ingest(*NEVER) as second:
        ids = [UUID(process.wait_for("ready")["worker"]) for process in (first, second)]
        assert workers.change("add") == 2
        for reader in readers:
            reader.ingest_endpoint = f"{a.ingest_endpoint},{b.ingest_endpoint}"
            reader.feed_endpoint = f"{a.feed_endpoint},{b.feed_endpoint}"
        heard, url = readers[0].query()
        with heard:
            heard.wait_for("feed_heard")
            dice = random.Random(1)
            runs = [UUID(int=dice.getrandbits(128), version=4) for _ in range(20)]
            made = [m for m in messages(dice, runs, 200) if home_of(home_key(m), ids) == ids[1]]
            with Producer(b.ingest_endpoint) as to_b:
                to_b.deliver(made[: len(made) // 2])
                to_b.flush()
                ack = to_b.deliver(made[len(made) // 2 :])
            last = f"{ack.worker}:{ack.first_seq + ack.accepted - 1}"
            assert download(f"{url}/api/v1/runs", after=last).status == 200, "the feed has told it"
            with_lost = exported(url)
            second.kill()
            shutil.rmtree(b.data)
            assert workers.change("retire", str(ids[1]), "--journal-lost") == 3
            heard.wait_for("lost_messages_removed")
            with Producer(a.ingest_endpoint) as to_a:
                to_a.deliver(messages(dice, runs, 40))
                to_a.flush()
            anew, url_anew = readers[1].query()
            with anew:
                reached = workers.rows("SELECT worker, max(last_seq) FROM {lake}.flushes GROUP BY worker")
                end = ",".join(f"{worker}:{seq}" for worker, seq in reached)
                for one in (url, url_anew):
                    assert download(f"{one}/api/v1/runs", after=end).status == 200
                assert exported(url) == exported(url_anew) != with_lost
        assert first.terminate() == 0


def exported(url: str) -> list[bytes]:
    return [download(f"{url}/api/v1/{what}", format="ndjson").body for what in ("runs", "events")]
