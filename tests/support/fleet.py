"""A varied lake for tests of reads: made from a seed, over the week in which Europe/Berlin changes its clocks."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from support.lakes import LakeWriter, Worker

FIRST = datetime(2026, 3, 25, tzinfo=UTC)
"""Clocks in Berlin go forward on 2026-03-29 at 01:00 UTC."""
DAYS = 8
PASSED = "2026-05-01T00:00:00Z"
"""A promised sign of life that has not come: it is after all that happened."""
CHOICES: dict[str, list[Any]] = {
    "agent_name": ["crawler", "writer", "Prüfer", "a,b"],
    "job_type": ["daily", "hourly"],
    "status": ["running", "success", "success", "failure", "partial", "timeout", "cancelled"],
    "product": ["words", "cells", None],
    "product_family": ["office", None],
    "platform": ["linux", "mac"],
    "website": ["example.org", None],
    "subdomain": ["www", None],
    "website_section": ["news", None],
    "environment": ["prod", "test"],
    "host": ["h1", "h2", "h3"],
    "trigger_type": ["cron", "manual"],
    "parent_run_id": ["parent-1", "parent-2", None, None],
    "git_repo": ["runlake", None],
    "git_branch": ["main", "dev", None],
    "commit_hash": ["abcdef0", "1234567", None],
    "model": ["m-1", "m-2", None],
    "provider": ["p-1", None],
    "insight_id": ["i-1", None],
    "duration_ms": [0, 1, 250, 1000, 60_000, None, None],
    "items_discovered": [0, 5, 9, None],
    "items_succeeded": [0, 4, None],
    "items_failed": [1, None],
    "items_skipped": [2, None],
    "input_tokens": [100, 2**40, None],
    "output_tokens": [7, None],
    "cache_read_tokens": [3, 2**33, None],
    "cache_write_tokens": [1, None],
    "cost_usd": ["0.000000001", "1.25", None],
    "input_summary": ["looked at 100%_of it", None],
    "error_summary": ["Timeout in Straße", None],
    "metrics_json": [{"x": [1, None, "ü"]}, None],
}


@dataclass
class Fleet:
    """What was written, beside the lake that holds it."""

    workers: list[Worker] = field(default_factory=lambda: [Worker(), Worker()])
    events: Counter[str] = field(default_factory=Counter)
    """How many events belong to each run."""

    @property
    def position(self) -> str:
        return ",".join(f"{worker.id}:{worker.seq}" for worker in self.workers)


def make_fleet(lake: LakeWriter, runs: int = 400, seed: int = 1) -> Fleet:
    """Runs in two workers, in several flushes; some share their start time, some their run_id, some have events."""
    dice = random.Random(seed)
    fleet = Fleet()
    latest: dict[str, tuple[int, int, UUID]] = {}
    loose: Counter[str] = Counter()
    for number in range(runs):
        worker = fleet.workers[number % 2]
        fields = {name: dice.choice(choices) for name, choices in CHOICES.items()}
        fields["heartbeat_until"] = (PASSED, "2126-01-01T00:00:00Z", None)[number % 3]
        start = FIRST + timedelta(minutes=10 * dice.randrange(DAYS * 144), microseconds=dice.choice((0, 0, 500_000)))
        fields["start_time"] = start.isoformat()
        if dice.random() < 0.5:
            fields["end_time"] = (start + timedelta(milliseconds=dice.randrange(100_000))).isoformat()
        run_id = f"run-{dice.randrange(runs * 3 // 4)}"
        run = worker.start(run_id, UUID(int=dice.getrandbits(128)), **fields)
        latest[run_id] = max(latest.get(run_id, (0, 0, run)), (worker.seq, worker.seq, run))
        for _ in range(dice.choice((0, 0, 1, 3))):
            worker.event(run_id, run, ts=start.isoformat())
            fleet.events[str(run)] += 1
        if dice.random() < 0.1:
            worker.event(run_id, ts=start.isoformat())
            loose[run_id] += 1
        if number % 150 == 149:
            lake.flush(*fleet.workers)
    lake.flush(*fleet.workers)
    for run_id, events in loose.items():
        fleet.events[str(latest[run_id][2])] += events
    return fleet
