"""Each fault once, beside producers that emit: nothing acknowledged is lost or doubled, the books balance, and the read
model equals the fold (P1, P2, P3, P4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from faults.faults import FAULTS
from faults.world import World

MESSAGES = 10_000


@pytest.mark.parametrize("name", FAULTS)
def test_p1_nothing_is_lost_or_doubled_by(name: str, make_world: Callable[..., World]) -> None:
    world = make_world("--flush-interval-ms", "100", power="power" in name)
    world.begin(MESSAGES)
    FAULTS[name](world)
    world.finish()
