"""Everything that can fail in a cluster fails while agents and HTTP clients send: nothing acknowledged is lost or
doubled, the books balance, and every query process tells the same (P1, P2, P3, P4). The long form (`--faults-long`)
goes on for `--faults-minutes`."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from cluster.faults import CABLE_FAULTS, FAULTS, LONG_FAULTS
from cluster.oracle import ClusterFacts
from cluster.story import Story
from faults.faultlayer import compile_layer
from support.haproxy import find_haproxy
from support.network import Network
from support.objectstore import ObjectStore
from support.postgres import find_binaries


def test_p1_a_cluster_loses_nothing_and_doubles_nothing_whatever_fails(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    object_store: ObjectStore,
    rng: random.Random,
    long_form: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if find_binaries() is None or find_haproxy() is None:
        pytest.skip("PostgreSQL and HAProxy are needed (Debian: apt-get install postgresql haproxy)")
    until = time.monotonic() + request.config.getoption("--faults-minutes") * 60
    facts: ClusterFacts | None = None
    with ExitStack() as ends:
        trouble = Network.trouble()
        network = ends.enter_context(Network()) if not trouble else None
        faults = FAULTS | (CABLE_FAULTS if network is not None else {}) | (LONG_FAULTS if long_form else {})
        layer = compile_layer(tmp_path)
        story = ends.enter_context(Story(tmp_path, rng, object_store, layer, network, long=long_form))

        def tell(line: str) -> None:
            with capfd.disabled() if long_form or request.config.getoption("capture") == "no" else nullcontext():
                print(line, flush=True)

        if trouble:
            tell(f"without pulled cables: {trouble}")
        try:
            while True:
                story.begin_senders()
                for name in rng.sample(sorted(faults), k=len(faults)):
                    tell(name)
                    story.strike(name, faults[name])
                facts = story.settle()
                if not long_form or time.monotonic() >= until:
                    break
        finally:
            tell(story.summary(facts))
