"""kill -9 of ingest, at random and at every named point: nothing acked is lost, nothing stands twice (P1, P2, P3)."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faults.oracle import assert_all_there_once
from faults.world import accepted, finish_producers
from support.processes import Process, Site, wait_until

SCRIPT = Path(__file__).with_name("emit_events.py")
DEADLINE_S = 120.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def start_producers(site: Site, producers: int, messages: int, first: int = 0) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), site.ingest_endpoint, f"run-{number}", str(messages // producers)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(first, first + producers)
    ]


def stop_and_check(site: Site, ingest: Process, expected: int) -> None:
    assert ingest.terminate() == 0
    assert list((site.data / "ingest" / "journal").iterdir()) == []
    assert_all_there_once(site.catalog, expected)


def test_p1_events_survive_kill_9_of_ingest_while_four_processes_emit(
    site: Site, rng: random.Random, long_form: bool
) -> None:
    messages = 1_000_000 if long_form else 200_000
    kills = 25 if long_form else 5
    thresholds = sorted(rng.randrange(1_000, messages * 9 // 10) for _ in range(kills))
    ingest = site.ingest()
    producers = start_producers(site, 4, messages)
    for threshold in thresholds:
        wait_until(lambda at=threshold: accepted(site) >= at, f"position {threshold}", DEADLINE_S)  # type: ignore[misc]
        ingest.kill()
        ingest = site.ingest()
    finish_producers(producers)
    stop_and_check(site, ingest, messages)


def test_p1_a_crash_inside_recovery_is_recovered_from(site: Site) -> None:
    messages = 2_000
    ingest = site.ingest("--flush-interval-ms", "600000")
    finish_producers(start_producers(site, 1, messages))
    ingest.kill()
    for point in ("flush.before_begin", "flush.before_commit", "flush.after_commit"):
        ingest = site.ingest(crash_at=point, ready=False)
        assert ingest.wait() == -signal.SIGKILL
    stop_and_check(site, site.ingest(), messages)
