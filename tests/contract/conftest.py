"""The two real processes, for tests that speak HTTP alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.api import Api
from support.processes import Site


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a query process beside an ingest worker."""
    site = Site(tmp_path_factory.mktemp("service"))
    with site.ingest():
        query, url = site.query()
        with query:
            yield url


@pytest.fixture
def api(service: str) -> Iterator[Api]:
    api = Api(service)
    yield api
    api.close()
