"""The worker is killed at every named point, and the power with it: what was never fsynced is gone, or there in part.
Every acknowledged message is there, once, when the worker comes back (P1, P2, P3)."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from faults.faults import lose_power
from faults.oracle import judge
from faults.world import DEADLINE_S, World
from runlake_ingest.crashpoints import NAMES

MESSAGES = 2_000
POINTS = [name for name in NAMES if not name.startswith("maintain.")]


@pytest.mark.parametrize("point", POINTS)
def test_p1_what_was_acknowledged_outlives_a_kill_and_losses_of_power_at(
    point: str, make_world: Callable[..., World]
) -> None:
    world = make_world("--flush-interval-ms", "20", power=True)
    for aftermath in ("kill", "unsynced is gone", "unsynced is torn"):
        ingest = world.start_ingest(crash_at=point, ready=False)
        world.emit(MESSAGES, producers=1)
        assert ingest.wait(DEADLINE_S) == -signal.SIGKILL
        if aftermath != "kill":
            world.layer.lose_power(world.dice, torn=aftermath == "unsynced is torn")
    world.start_ingest()
    world.finish_producers()
    world.stop_ingest()
    judge(world.facts(), world.messages)


@pytest.mark.parametrize("torn", [False, True], ids=["unsynced-is-gone", "unsynced-is-torn"])
def test_p1_what_was_acknowledged_outlives_losses_of_power(torn: bool, make_world: Callable[..., World]) -> None:
    world = make_world("--flush-interval-ms", "50", power=True)
    world.begin(0)
    for _ in range(2):
        world.emit(5 * MESSAGES)
        world.midway()
        lose_power(world, torn=torn)
    world.finish()
