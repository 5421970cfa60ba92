"""Options and fixtures of the fault suite (tests/faults): `--faults-long` makes it long, with rounds of faults for
`--faults-minutes`; `--faults-seed` replays a run (the seed is printed with each failure). A state folder for all tests,
so that no spool of theirs is in the user's own. And the parts of a cluster: PostgreSQL and an S3 server, each started
once per test process, when the first test asks."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.network import Network
from support.objectstore import ObjectStore
from support.postgres import Postgres, find_binaries
from support.workers import Workers

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server. A test that stops or kills it starts it again."""
    if find_binaries() is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with Postgres() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The URL of a new database."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """An S3 server."""
    with ObjectStore() as server:
        yield server


@pytest.fixture
def bucket(object_store: ObjectStore) -> str:
    """A new bucket, `s3://NAME/`; `object_store.env` is for the processes that use it."""
    return object_store.create_bucket()


@pytest.fixture
def workers(tmp_path: Path, database: str) -> Workers:
    """Several workers on one lake in a folder, with a new database for its catalog."""
    return Workers(tmp_path, database)


@pytest.fixture
def network() -> Iterator[Network]:
    """A network without hosts."""
    trouble = Network.trouble()
    if trouble:
        pytest.skip(trouble)
    with Network() as network:
        yield network
