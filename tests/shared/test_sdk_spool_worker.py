"""Agents and the worker killed at random, and at the end: what emit took is in the lake, once, in order (P7)."""

from __future__ import annotations

import mmap
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from faults.oracle import assert_all_there_once, lake_facts
from support.agents import start_agent
from support.processes import Site
from support.waiting import eventually

AGENTS = 3
_PROGRAM = """
import mmap
name, progress = arguments[0], mmap.mmap(os.open(arguments[1], os.O_RDWR), 8)
n = 0
while True:
    assert runlake.emit(runlake.RunEvent(event_id=uuid.uuid4(), run_id=name, type="t", payload={"number": n},
                        ts=datetime.datetime.now(datetime.UTC)))
    n += 1
    progress[:] = n.to_bytes(8, "little")  # so many have returned
    if n % 100 == 0: threading.Event().wait(0.001)
"""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_p7_killed_agents_and_a_killed_worker_lose_nothing_that_emit_took(
    tmp_path: Path, rng: random.Random, stack: ExitStack
) -> None:
    site, spool = Site(tmp_path), tmp_path / "spool"
    agents, counters = [], []
    for number in range(AGENTS):
        progress = tmp_path / f"progress-{number}"
        progress.write_bytes(bytes(8))
        with progress.open("rb") as file:
            counters.append(mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ))
        agents.append(
            stack.enter_context(start_agent(_PROGRAM, site.ingest_endpoint, spool, f"run-{number}", progress))
        )
        stack.callback(agents[-1].kill)

    def emitted(number: int) -> int:
        return int.from_bytes(counters[number][:], "little")

    for number, agent in enumerate(agents):  # one before there is a worker, one beside it, one after its kill
        if number == 1:
            worker = stack.enter_context(site.ingest())
        least = emitted(number) + rng.randrange(1, 3_000)
        eventually(lambda: emitted(number) >= least, 60)  # noqa: B023 (used up before the next turn)
        if number == 2:
            worker.kill()
        agent.kill()
        agent.communicate()
    counts = [emitted(number) for number in range(AGENTS)]

    with site.ingest() as worker:
        command = [sys.executable, "-m", "runlake.cli", "spool", "send", "--spool", str(spool)]
        sent = subprocess.run(
            [*command, "--ingest", site.ingest_endpoint], capture_output=True, text=True, timeout=90, check=False
        )
        assert (sent.returncode, sent.stderr) == (0, "")
        assert worker.terminate() == 0
    there = lake_facts(site.catalog).messages
    assert sum(counts) <= there <= sum(counts) + AGENTS  # a kill may have come between the append and the return
    assert_all_there_once(site.catalog, there)
    assert not list(spool.glob("*/*.seg"))
