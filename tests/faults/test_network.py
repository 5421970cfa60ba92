"""A real network between agents and the worker, with a cable to pull: a network namespace for the agents' host (`Cable`
in `cable.py` does the same to sockets, where there are no namespaces)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.oracle import judge
from faults.world import DEADLINE_S, SCRIPT, World, finish_producers
from support.keys import Keys
from support.network import Host, Network
from support.processes import wait_until
from support.reading import one

_EACH = 30_000
_SOME = 500
_STILL_S = 3.0


@pytest.fixture
def beginning(network: Network, make_world: Callable[..., World]) -> World:
    """The worker is reached over the network; it does not run yet."""
    world = make_world("--flush-interval-ms", "100")
    world.site.ingest_endpoint = f"tcp://{network.own}:8766"
    world.site.push_endpoint = f"tcp://{network.own}:8767"
    world.site.feed_endpoint = f"tcp://{network.own}:8768"
    return world


@pytest.fixture
def agent_env(beginning: World, tmp_path: Path) -> dict[str, str]:
    """What agents on another host are told; their spools are in one folder."""
    keys = Keys(beginning.site.data, tmp_path / "keys")
    keys.client("agent")
    told = {"RUNLAKE_INGEST": beginning.site.ingest_endpoint, "XDG_STATE_HOME": str(tmp_path / "state")}
    return {**os.environ, **told, **keys.variables("agent")}


@pytest.fixture
def world(beginning: World, agent_env: dict[str, str]) -> World:
    """A worker that lets in who has those keys."""
    assert agent_env["RUNLAKE_SERVER_KEY"]
    beginning.start_ingest()
    return beginning


@pytest.fixture
def start_agent(agent_env: dict[str, str]) -> Iterator[Callable[[Host, str], subprocess.Popen[str]]]:
    """Starts agents on a host; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(host: Host, name: str) -> subprocess.Popen[str]:
        command = [*host.prefix, sys.executable, str(SCRIPT), agent_env["RUNLAKE_INGEST"], name, str(_EACH)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=agent_env))
        return started[-1]

    yield start
    for agent in started:
        agent.kill()
        with agent:
            pass


def accepted(world: World) -> int:
    return int(world.metric("runlake_ingest_accepted_total"))


def pull(world: World, host: Host) -> int:
    """Pull the cable when something was accepted; returns how much is, when all that had passed is taken in."""
    wait_until(lambda: accepted(world) >= _SOME, "some is accepted", DEADLINE_S)
    host.cut()
    before = -1
    while before != (before := accepted(world)):
        threading.Event().wait(_STILL_S)
    return before


def test_p1_agents_whose_cable_is_pulled_deliver_all_when_it_is_back(
    network: Network, world: World, start_agent: Callable[[Host, str], subprocess.Popen[str]]
) -> None:
    host = network.add_host()
    agents = [start_agent(host, f"run-{number}") for number in range(2)]
    passed = pull(world, host)
    assert passed < 2 * _EACH
    threading.Event().wait(60 if world.long else 3)  # longer than an ack may take: time itself is what is tested
    assert accepted(world) == passed
    host.mend()
    assert finish_producers(agents) == 2 * _EACH
    world.stop_ingest()
    judge(world.facts(), 2 * _EACH)


def test_p7_an_agent_that_dies_behind_a_pulled_cable_leaves_a_half_open_connection_and_a_spool(
    network: Network,
    world: World,
    agent_env: dict[str, str],
    start_agent: Callable[[Host, str], subprocess.Popen[str]],
) -> None:
    """The worker is never told that the connection ended. What the agent had emitted is delivered from its spool."""
    host = network.add_host()
    dying = start_agent(host, "run-1")
    passed = pull(world, host)
    dying.kill()
    dying.wait(DEADLINE_S)
    host.mend()
    send = [*host.prefix, sys.executable, "-m", "runlake.cli", "spool", "send"]
    done = subprocess.run(send, env=agent_env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    delivered = accepted(world)
    world.stop_ingest()
    assert passed < delivered <= _EACH
    judge(world.facts(), delivered)
    last = "SELECT max(coalesce((payload->>'number')::BIGINT, 0)) FROM events"
    assert one(world.site.catalog, last) in (delivered - 1, delivered - 2)  # all to the last; that may be a change
