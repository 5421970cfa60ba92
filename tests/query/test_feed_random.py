"""Correctness never depends on the feed: whatever happens to it, the read model ends equal to the fold of the lake."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runlake.messages import Message, RunEvent, RunStarted, RunUpdated
from support.feedproxy import FeedProxy
from support.models import Model, fields_missed, shown_runs
from support.processes import Process, Site
from support.producer import Producer, push
from support.reading import rows

TABLES = {
    "runs": "*",
    "events": "*",
    "loose_events": "*",
    "associations": "*",
    "producers": "*",
    "producer_ranges": "*",
    "open_deliveries": "* EXCLUDE (segment)",
    "positions": "worker, seq, lake_seq, segment",
}


def messages(dice: random.Random, runs: Sequence[UUID], count: int) -> list[Message]:
    """Starts, updates before and after them, events with and without a run."""
    now = datetime.now(UTC)
    made: list[Message] = []
    for _ in range(count):
        run, key = dice.choice(runs), UUID(int=dice.getrandbits(128), version=4)
        name = f"run-{run.int % 5}"
        match dice.randrange(6):
            case 0:
                made.append(
                    RunStarted(
                        event_id=run,
                        run_id=name,
                        agent_name="a",
                        job_type="j",
                        start_time=now,
                        product="p",
                        metrics_json={"big": 2**60, "text": 'a "quoted"\nline', "ü": [None, 1.5e300]},
                    )
                )
            case 1 | 2:
                fields: dict[str, Any] = {
                    "status": dice.choice(("success", "failure")),
                    "items_failed": dice.randrange(9),
                }
                if dice.random() < 0.3:
                    fields |= {"commit_hash": f"{dice.choice('aB')}{dice.getrandbits(32):08x}", "commit_source": "ci"}
                made.append(RunUpdated(event_id=key, run_event_id=run, ts=now, **fields))
            case 3:
                made.append(RunEvent(event_id=key, run_id=name, ts=now, type="loose"))
            case _:
                payload = {"n": dice.randrange(100), "text": "é" * dice.randrange(20)}
                made.append(RunEvent(event_id=key, run_id=name, run_event_id=run, ts=now, type="step", payload=payload))
    return made


def all_rows(model: Model) -> dict[str, list[str]]:
    return {
        table: sorted(
            row[0] for row in model.rows(f"SELECT found::VARCHAR FROM (SELECT {columns} FROM {table}) AS found")
        )
        for table, columns in TABLES.items()
    }


def random_feed(dice: random.Random, site: Site, tmp_path: Path) -> None:
    downstream = f"ipc://{site.sockets}/proxied"
    runs = [UUID(int=dice.getrandbits(128), version=4) for _ in range(40)]
    sent: list[Message] = []
    fed = 0
    ingest: Process = site.ingest("--flush-interval-ms", "150")
    model = Model(site, tmp_path / "fed", feed=downstream)
    model.__enter__()
    try:
        with FeedProxy(site.feed_endpoint, downstream, dice) as proxy, Producer(site.ingest_endpoint) as producer:
            for _ in range(dice.randrange(60, 120)):
                batch = messages(dice, runs, dice.randrange(1, 12))
                if sent and dice.random() < 0.3:
                    batch += dice.sample(sent, min(3, len(sent)))  # duplicates
                if dice.random() < 0.1 and sent:
                    batch = dice.sample(sent, min(3, len(sent)))  # nothing to accept
                sent += batch
                ack = producer.deliver(batch)
                if dice.random() < 0.2:  # time for the feed to be contiguous now and then
                    model.reached({ack.worker: ack.first_seq + ack.accepted - 1})
                if dice.random() < 0.1:
                    producer.deliver([b"\x81\xa4kind\xa7nothing"])  # refused
                if dice.random() < 0.1:
                    push(site.push_endpoint, b"not even MessagePack")
                if dice.random() < 0.02:
                    ingest.kill()
                    ingest = site.ingest("--flush-interval-ms", "150")
                if dice.random() < 0.04:
                    model.__exit__(None, None, None)
                    fed += model.progress.counts.fed
                    model = Model(site, tmp_path / "fed", feed=downstream, span_messages=dice.choice((7, 1_000_000)))
                    model.__enter__()
            at = producer.flush()
            model.confirmed({at.worker: at.accepted})
            assert fed + model.progress.counts.fed > 0
            assert at.durable == at.flushed == at.accepted
            assert min(proxy.did[what] for what in ("passed", "drop", "hold", "twice")) > 0
            with Model(site, tmp_path / "from the lake alone") as folded:
                folded.confirmed({at.worker: at.accepted})
                assert all_rows(model) == all_rows(folded)
                assert not fields_missed(model) | fields_missed(folded)
                assert model.shown() == sorted([list(row) for row in rows(site.catalog, shown_runs("runs"))])
            proxy.faithful = True
            producer.deliver(messages(dice, runs, 5))
            producer.flush()
    finally:
        model.__exit__(None, None, None)
        ingest.kill()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_p4_a_feed_that_drops_delays_reorders_and_duplicates_changes_nothing(
    seed: int, site: Site, tmp_path: Path
) -> None:
    random_feed(random.Random(seed), site, tmp_path)


def test_p4_nor_does_any_other_such_feed(rng: random.Random, site: Site, tmp_path: Path) -> None:
    random_feed(rng, site, tmp_path)
