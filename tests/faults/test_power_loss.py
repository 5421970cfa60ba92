"""The power is lost: what was never fsynced is gone, or there in part. Every acknowledged message is there, once, when
the worker comes back (P1, P2, P3)."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from faults.faults import lose_power
from faults.world import DEADLINE_S, World
from runlake_ingest.crashpoints import NAMES

MESSAGES = 4_000
POINTS = [name for name in NAMES if not name.startswith("maintain.")]


@pytest.mark.parametrize("torn", [False, True], ids=["unsynced-gone", "unsynced-torn"])
def test_p1_what_was_acknowledged_outlives_losses_of_power(torn: bool, make_world: Callable[..., World]) -> None:
    world = make_world("--flush-interval-ms", "50", power=True)
    world.begin(0)
    for _ in range(2):
        world.emit(5 * MESSAGES)
        world.midway()
        lose_power(world, torn=torn)
    world.finish()


@pytest.mark.parametrize("point", POINTS)
def test_p1_what_was_acknowledged_outlives_a_loss_of_power_at(point: str, make_world: Callable[..., World]) -> None:
    world = make_world("--flush-interval-ms", "20", power=True)
    world.emit(MESSAGES, producers=1)
    for torn in (False, True):
        ingest = world.start_ingest(crash_at=point, ready=False)
        assert ingest.wait(DEADLINE_S) == -signal.SIGKILL
        world.layer.lose_power(world.dice, torn=torn)
        world.emit(MESSAGES, producers=1)
    world.start_ingest()
    world.start_query()
    world.finish()
