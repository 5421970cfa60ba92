"""Options and fixtures of the fault suite (tests/faults): `--faults-long` makes it long, with rounds of faults for
`--faults-minutes`; `--faults-seed` replays a run (the seed is printed with each failure). And a state folder for all
tests, so that no spool of theirs is in the user's own."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-long", action="store_true", help="run the fault suite in its long form")
    parser.addoption("--faults-minutes", type=float, default=30.0, help="how long the long form's rounds go on")
    parser.addoption("--faults-seed", type=int, default=None, help="replay the fault suite with this seed")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--faults-long"):
        config.option.timeout = 0  # the long form takes hours


@pytest.fixture(autouse=True, scope="session")
def state_folder() -> Iterator[None]:
    """XDG_STATE_HOME, also for the processes that tests start."""
    with tempfile.TemporaryDirectory(prefix="runlake-tests-", ignore_cleanup_errors=True) as folder:
        os.environ["XDG_STATE_HOME"] = folder
        yield


@pytest.fixture
def long_form(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--faults-long"))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> Iterator[random.Random]:
    seed = request.config.getoption("--faults-seed")
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    print(f"replay with --faults-seed {seed}")
    yield random.Random(seed)
