"""Every fault, beside producers that emit: nothing acknowledged is lost or doubled, the books balance, and the read
model equals the fold (P1, P2, P3, P4). Those that strike the same part come one after the other upon one world."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from faults.faults import FAULTS
from faults.world import World
from support.postgres import Postgres

MESSAGES = 5_000
POSTGRES = ("postgres-restarts", "postgres-is-killed", "postgres-hangs")
PARTS = {
    "the worker": ("kill-ingest", "crash-ingest", "crash-ingest-at-a-write", "stop-ingest"),
    "the query process": (
        "kill-query", "crash-query-in-bootstrap", "crash-query-in-apply", "crash-query-in-checkpoint", "stop-query",
        "read-model-write-fails",
    ),
    "the journal": ("journal-write-fails", "journal-fsync-fails", "slow-fsync"),
    "the lake": ("lake-write-fails", "lake-fsync-fails", "catalog-write-fails", "catalog-locked"),
    "the clock": ("clock-jumps-forward", "clock-jumps-back", "clock-of-ingest-jumps", "clock-of-query-jumps"),
    "the network": ("cut-network", "duplicate-storm", "many-producers"),
}  # fmt: skip


def test_every_fault_strikes_some_part() -> None:
    """The power has a file of its own (`test_power_loss.py`)."""
    tried = {name for names in (*PARTS.values(), POSTGRES) for name in names}
    assert tried == set(FAULTS) - {"lose-power-midway"}


@pytest.mark.parametrize("part", PARTS)
def test_p1_nothing_is_lost_or_doubled_by_faults_of(part: str, make_world: Callable[..., World]) -> None:
    world = make_world("--flush-interval-ms", "100")
    world.begin(MESSAGES)
    for name in PARTS[part]:
        print(name)
        world.strike(FAULTS[name])
    world.finish()


def test_p1_nothing_is_lost_or_doubled_by_faults_of_the_server_of_the_catalog(
    postgres: Postgres, make_world: Callable[..., World]
) -> None:
    world = make_world("--flush-interval-ms", "100", postgres=postgres)
    world.begin(MESSAGES)
    for name in POSTGRES:
        print(name)
        world.strike(FAULTS[name])
    world.finish()
