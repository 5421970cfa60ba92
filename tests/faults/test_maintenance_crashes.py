"""The worker is killed inside every step of maintenance, right before and right after its COMMIT, and the power with
it: every file that the catalog names is there, whole; and the next worker finishes what was begun (P1, P3)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from uuid import UUID

import pytest

from faults.upkeep import FLAGS, assert_whole, is_done, let_everything_be_due
from faults.world import DEADLINE_S, World
from runlake_ingest.crashpoints import MAINTENANCE_STEPS
from support.processes import wait_until

PLACES = ("before_commit", "after_commit")
HALVES = (MAINTENANCE_STEPS[:5], MAINTENANCE_STEPS[5:])
"""In the order in which they come: the worker that follows a kill at one goes on to the next."""


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power-loss"])
@pytest.mark.parametrize("steps", HALVES, ids="-".join)
def test_p1_every_step_that_is_killed_is_finished_by_the_next_worker(
    steps: tuple[str, ...], power: bool, make_world: Callable[..., World]
) -> None:
    world = make_world(*FLAGS, power=power)
    kept = let_everything_be_due(world.site)
    if power:
        world.layer.settle()
    for step in steps:
        for place in PLACES:
            crash_at(world, step, place)
            if power:
                world.layer.lose_power(world.dice, torn=world.dice.random() < 0.5)
            assert_whole(world.site)
    finish(world, kept)


def crash_at(world: World, step: str, place: str) -> None:
    worker = world.start_ingest(crash_at=f"maintain.{step}.{place}", ready=False)
    assert worker.wait(DEADLINE_S) == -signal.SIGKILL


def finish(world: World, kept: list[UUID]) -> None:
    world.start_ingest()
    wait_until(lambda: is_done(world.site, kept), "maintenance has done all that is due", DEADLINE_S)
    world.stop_ingest()
    assert_whole(world.site)
