"""Options and fixtures of the fault suite (tests/faults): `--faults-long` makes it long; `--faults-seed`
replays a run (the seed is printed with each failure)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-long", action="store_true", help="run the fault suite in its long form")
    parser.addoption("--faults-seed", type=int, default=None, help="replay the fault suite with this seed")


@pytest.fixture
def long_form(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--faults-long"))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> Iterator[random.Random]:
    seed = request.config.getoption("--faults-seed")
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    print(f"replay with --faults-seed {seed}")
    yield random.Random(seed)
