"""The disk refuses the journal's writes for a while (RLIMIT_FSIZE): nothing of the failed group is acknowledged, the
worker starts again by itself, and nothing is lost or doubled (P1, P2, P3)."""

from __future__ import annotations

import resource
from pathlib import Path

from faults.test_kill_ingest import start_producers, stop_and_check
from faults.world import finish_producers
from support.processes import Site


def test_p1_a_journal_that_cannot_be_written_loses_nothing_and_comes_back_by_itself(tmp_path: Path) -> None:
    messages = 20_000
    site = Site(tmp_path)
    ingest = site.ingest("--flush-interval-ms", "600000")
    unlimited = resource.prlimit(ingest.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(ingest.pid, resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
    producers = start_producers(site, 2, messages)
    failure = ingest.wait_for("disk_failed")
    assert "File too large" in failure["reason"]
    resource.prlimit(ingest.pid, resource.RLIMIT_FSIZE, unlimited)
    finish_producers(producers)
    stop_and_check(site, ingest, messages)
