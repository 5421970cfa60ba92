"""The long form (`--faults-long`): round after round of randomly chosen faults, for `--faults-minutes`, with one line
at the end that counts them. The short form has every fault (`test_faults.py`), and here one round.

Each round's faults, sizes and moments come from a seed of its own, which its line tells: `--faults-seed SEED` begins
with that round, upon a new lake.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from faults.faults import FAULTS
from faults.oracle import LakeFacts, judge
from faults.world import World
from support.postgres import find_binaries

_ROUNDS_PER_LAKE = 10
"""Then a new one begins: what a round checks grows with its lake."""
_SHORT_ROUNDS = 1
_ON_POSTGRES = 1 / 3
"""So many of the lakes have their catalog there, where it is installed."""
_FLUSH_MS = (10, 100, 2_000)
_MAINTENANCE_MS = (0, 50, 30_000)


@dataclass
class Tally:
    """What the rounds have tried and found."""

    began: float
    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    acknowledged: int = 0
    stored: int = 0
    distinct: int = 0

    def count(self, world: World, sent: int, acknowledged: int, before: LakeFacts | None) -> LakeFacts:
        """Count what a round has added to its world."""
        facts = world.facts()
        self.rounds += 1
        self.sent += world.messages - sent
        self.acknowledged += world.acknowledged - acknowledged
        self.stored += facts.messages - (before.messages if before else 0)
        self.distinct += facts.distinct_ids - (before.distinct_ids if before else 0)
        return facts

    def summary(self) -> str:
        tried = ", ".join(f"{name} {times}" for name, times in sorted(self.faults.items()))
        return (
            f"FAULTS rounds {self.rounds}; {(time.monotonic() - self.began) / 60:.1f} min; faults"
            f" {self.faults.total()} ({tried}); events sent {self.sent:,}; acknowledged {self.acknowledged:,};"
            f" lost {self.acknowledged - self.distinct:,}; doubled {self.stored - self.distinct:,}"
        )


@pytest.fixture
def tell(long_form: bool, capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line: in the long form at once, else with a failure."""

    def say(line: str) -> None:
        with capfd.disabled() if long_form else nullcontext():
            print(line, flush=True)

    return say


def test_p1_rounds_of_random_faults_lose_nothing_and_double_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, fault_layer: Path, long_form: bool, tell: Callable[[str], None]
) -> None:
    postgres = request.getfixturevalue("postgres") if find_binaries() is not None else None
    seed = request.config.getoption("--faults-seed")
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    tally = Tally(time.monotonic())
    until = tally.began + request.config.getoption("--faults-minutes") * 60

    def more() -> bool:
        return time.monotonic() < until if long_form else tally.rounds < _SHORT_ROUNDS

    try:
        while more():
            folder = tmp_path / "lake"
            folder.mkdir()
            dice = random.Random(seed)
            flags = ("--flush-interval-ms", str(dice.choice(_FLUSH_MS)),
                     "--maintenance-interval-ms", str(dice.choice(_MAINTENANCE_MS)),
                     "--maintenance-keep-s", "1")  # fmt: skip
            server = postgres if dice.random() < _ON_POSTGRES else None
            with World(folder, fault_layer, dice, *flags, power=True, long=long_form, postgres=server) as world:
                facts: LakeFacts | None = None
                for _ in range(_ROUNDS_PER_LAKE):
                    dice.seed(seed)
                    possible = [name for name, fault in sorted(FAULTS.items()) if world.fits(fault)]
                    names = dice.sample(possible, k=dice.randint(1, 3))
                    what = f"{', '.join(names)} on {world.catalog}"
                    tell(f"round {tally.rounds + 1}: {what}; replay with --faults-seed {seed}")
                    facts = _round(world, names, tally, facts)
                    seed = dice.randrange(2**32)
                    if not more():
                        break
            shutil.rmtree(folder)
    finally:
        tell(tally.summary())


def _round(world: World, names: list[str], tally: Tally, before: LakeFacts | None) -> LakeFacts:
    sent, acknowledged = world.messages, world.acknowledged
    world.begin(world.dice.randrange(2_000, 60_000 if world.long else 6_000))
    for name in names:
        tally.faults[name] += 1
        world.strike(FAULTS[name])
    world.settle()
    facts = tally.count(world, sent, acknowledged, before)
    judge(facts, world.messages)
    return facts
