"""Agents and the worker killed at random, and at the end: what emit took is in the lake, once, in order (P7)."""

from __future__ import annotations

import mmap
import random
import signal
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


_ALL_AT_ONCE = """
runlake.configure(endpoint=endpoint, spool=spool, spool_max_mb=1, exit_timeout_s=30)
def record(text):
    with runlake.track_run("agent", "step") as run:
        run.event("step", {"text": text})
class Talker:
    def __del__(self): record("collected")
async def task(): record("task")
async def tasks(): await asyncio.gather(*(task() for _ in range(50)))
signal.signal(signal.SIGUSR1, lambda *_: record("signal"))
record("first")
assert runlake.flush(30)
print("up", flush=True)
sys.stdin.readline()  # the worker hangs from here on
while not runlake.stats().dropped:
    threads = [threading.Thread(target=record, args=("x" * 3_000,)) for _ in range(20)]
    for thread in threads: thread.start()
    os.kill(os.getpid(), signal.SIGUSR1)
    Talker()
    asyncio.run(tasks())
    for thread in threads: thread.join()
print("full", flush=True)
sys.stdin.readline()  # and goes on
assert runlake.flush(60)
kept = Talker()
def balance():
    assert runlake.flush(60)
    stats = runlake.stats()
    print(stats.emitted, sum(stats.dropped.values()), list(stats.dropped), flush=True)
atexit.register(balance)
atexit.register(record, "atexit")
"""


def test_p6_a_worker_that_hangs_and_goes_on_has_all_that_was_not_counted_as_dropped(
    tmp_path: Path, stack: ExitStack
) -> None:
    site = Site(tmp_path)
    worker = stack.enter_context(site.ingest())
    agent = stack.enter_context(start_agent(_ALL_AT_ONCE, site.ingest_endpoint, tmp_path / "spool"))
    stack.callback(agent.kill)
    assert agent.stdin
    assert agent.stdout
    for told, sent in (("up", signal.SIGSTOP), ("full", signal.SIGCONT)):
        assert agent.stdout.readline() == f"{told}\n"
        worker.send(sent)
        agent.stdin.write("on\n")
        agent.stdin.flush()
    said, errors = agent.communicate(timeout=120)
    assert agent.returncode == 0, errors
    emitted, dropped, reasons = said.splitlines()[-1].split(maxsplit=2)
    assert reasons == "['spool_full']"
    assert worker.terminate() == 0
    late = 3  # a run that is recorded while the interpreter ends may still get there
    assert int(emitted) - int(dropped) <= lake_facts(site.catalog).messages <= int(emitted) - int(dropped) + late
    assert_all_there_once(site.catalog, lake_facts(site.catalog).messages)
