"""A lake and query processes of its own for each test that asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import Api, Start
from support.fleet import Fleet, make_fleet
from support.lakes import LakeWriter
from support.processes import Process, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def lake(site: Site) -> Iterator[LakeWriter]:
    with LakeWriter(site.data) as writer:
        yield writer


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    """Starts query processes on the site, and ends those that the test leaves."""
    started: list[tuple[Process, Api]] = []

    def start_one(*flags: str, caught_up: bool = True) -> tuple[Process, Api]:
        process, url = site.query("--refresh-ms", "10", *flags, caught_up=caught_up)
        started.append((process, Api(url)))
        return started[-1]

    yield start_one
    for process, api in started:
        api.close()
        process.__exit__(None, None, None)


@pytest.fixture(scope="session")
def served_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Api]]:
    """One varied lake and one query process for all tests that only read."""
    site = Site(tmp_path_factory.mktemp("fleet"))
    with LakeWriter(site.data) as writer:
        fleet = make_fleet(writer)
    process, url = site.query()
    api = Api(url)
    with process:
        yield fleet, api
        api.close()


@pytest.fixture
def fleet(served_fleet: tuple[Fleet, Api]) -> Fleet:
    return served_fleet[0]


@pytest.fixture
def api(served_fleet: tuple[Fleet, Api]) -> Api:
    return served_fleet[1]
