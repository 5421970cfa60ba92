"""What the fault tests share: the compiled fault layer, and worlds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from faults.faultlayer import compile_layer
from faults.world import World
from support.postgres import Postgres


@pytest.fixture(scope="session")
def fault_layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fault layer, compiled."""
    return compile_layer(tmp_path_factory.mktemp("faultlayer"))


@pytest.fixture
def make_world(
    tmp_path: Path, fault_layer: Path, rng: random.Random, long_form: bool
) -> Iterator[Callable[..., World]]:
    """Makes worlds, each with a folder of its own, and ends what runs in them."""
    with ExitStack() as ends:
        made = 0

        def make(*flags: str, power: bool = False, postgres: Postgres | None = None) -> World:
            nonlocal made
            made += 1
            folder = tmp_path / f"w{made}"
            folder.mkdir()
            return ends.enter_context(
                World(folder, fault_layer, rng, *flags, power=power, long=long_form, postgres=postgres)
            )

        yield make
