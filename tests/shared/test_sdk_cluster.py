"""Agents and several real workers: kills on both sides while the list of workers grows, and then one count."""

from __future__ import annotations

import mmap
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import pytest

from runlake.emitter import Emitter
from support.agents import start_agent
from support.emitting import event
from support.keys import Keys
from support.processes import Process, Site
from support.spools import segments
from support.waiting import eventually
from support.workers import Workers

OFTEN = ("--flush-interval-ms", "100")
EMIT_ON = """
import mmap
progress = mmap.mmap(os.open(arguments[0], os.O_RDWR), 8)
runs = [uuid.uuid4() for _ in range(100)]
n = 0
while True:
    runlake.emit(runlake.RunEvent(event_id=uuid.uuid4(), run_id="run", run_event_id=runs[n % 100], type="step",
                 payload={"n": n}, ts=datetime.datetime.now(datetime.UTC)))
    n += 1
    progress[:] = n.to_bytes(8, "little")
    if n % 20 == 0:
        threading.Event().wait(0.001)
"""


def gaps(workers: Workers) -> dict[tuple[str, UUID], int]:
    """By producer and worker, how many numbers up to the highest did not come."""
    came: dict[tuple[str, UUID], set[int]] = {}
    for producer, worker, first, count in workers.rows(
        "SELECT producer, worker, first_number, received FROM {lake}.deliveries WHERE first_number IS NOT NULL"
    ):
        came.setdefault((producer, worker), set()).update(range(first, first + count))
    return {whose: max(numbers) - len(numbers) for whose, numbers in came.items() if max(numbers) > len(numbers)}


def id_of(process: Process) -> str:
    return str(process.wait_for("ready")["worker"])


def test_p7_what_an_agent_emitted_reaches_the_lake_once_whoever_is_killed_while_workers_are_added(
    tmp_path: Path, database: str
) -> None:
    workers = Workers(tmp_path, database)
    sites = [workers.site(name) for name in "abc"]
    endpoints = ",".join(site.ingest_endpoint for site in sites[:2])
    spool, progress = tmp_path / "spool", tmp_path / "progress"
    progress.write_bytes(bytes(8))
    with ExitStack() as stack, progress.open("rb") as file:
        returned = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)

        def emitted() -> int:
            return int.from_bytes(returned[:], "little")

        first, second = (stack.enter_context(site.ingest(*OFTEN)) for site in sites[:2])
        agent = stack.enter_context(start_agent(EMIT_ON, endpoints, spool, progress))
        eventually(lambda: emitted() > 1_000)
        assert workers.change("add", id_of(second)) == 2
        second.kill()
        least = emitted() + 1_000
        eventually(lambda: emitted() > least)  # what is the second's waits
        second = stack.enter_context(sites[1].ingest(*OFTEN))
        third = stack.enter_context(sites[2].ingest(*OFTEN))
        assert workers.change("add", id_of(third)) == 3
        third.kill()
        least = emitted() + 1_000
        eventually(lambda: emitted() > least)
        agent.kill()
        agent.communicate()
        third = stack.enter_context(sites[2].ingest(*OFTEN))
        emitter = Emitter(",".join(reversed(endpoints.split(","))), spool=spool)
        emitter.emit(event(-1))
        assert emitter.flush(60)
        eventually(lambda: len(segments(spool)) <= 1, 60)  # its own
        assert len(emitter.stats().workers) == 3
        assert emitter.close()
        for process in (first, second, third):
            assert process.terminate() == 0

    arrived = [n for (n,) in workers.rows("SELECT (payload->>'n')::BIGINT FROM {lake}.events ORDER BY 1") if n >= 0]
    assert arrived == list(range(len(arrived)))
    assert emitted() <= len(arrived) <= emitted() + 1  # the kill may have come between the append and its return
    assert gaps(workers) == {}
    per_worker = workers.rows("SELECT worker, count(*) FROM {lake}.events GROUP BY worker")
    assert len(per_worker) == 3


def test_an_emitter_with_keys_delivers_and_one_whose_key_is_not_allowed_waits_until_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(tmp_path)
    keys = Keys(site.data, tmp_path / "clients")
    keys.client("friend")
    stranger = keys.client("stranger", allowed=False)
    told = {name: keys.variables(name) for name in ("friend", "stranger")}
    with site.ingest() as worker:
        emitters = {
            name: Emitter(
                site.ingest_endpoint,
                spool="off",
                server_key=said["RUNLAKE_SERVER_KEY"],
                client_key=said["RUNLAKE_CLIENT_KEY"],
            )
            for name, said in told.items()
        }
        for emitter in emitters.values():
            emitter.emit(event(1))
        assert emitters["friend"].flush(30)
        eventually(lambda: any("does not let in the key" in record.message for record in caplog.records))
        assert emitters["stranger"].stats().acknowledged == 0
        keys.allow("stranger", stranger.own)
        assert emitters["stranger"].flush(30)
        open_one = Emitter(site.ingest_endpoint, spool="off")
        open_one.emit(event(2))
        eventually(lambda: any("none are set here" in record.message for record in caplog.records))
        assert not open_one.close(0)
        assert all(emitter.close() for emitter in emitters.values())
        assert worker.terminate() == 0
    assert stranger.own.secret not in caplog.text
