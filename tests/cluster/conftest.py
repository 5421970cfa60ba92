"""What the cluster's tests share: networks of hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.network import Network


@pytest.fixture
def network() -> Iterator[Network]:
    """A network without hosts."""
    trouble = Network.trouble()
    if trouble:
        pytest.skip(trouble)
    with Network() as network:
        yield network
