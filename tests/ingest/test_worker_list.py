"""Several workers on one lake: who takes what, and what happens while their list changes."""

from __future__ import annotations

import re
import shutil
import signal
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from uuid import UUID

import pytest

from runlake import wire
from runlake.emitter import Emitter
from runlake.homes import home_key, home_of
from runlake.messages import Message
from runlake_ingest.crashpoints import CHANGE_NAMES
from support.api import Api
from support.processes import Process, Site, wait_until
from support.producer import Producer, payload, push
from support.samples import event, events, started, updated
from support.waiting import eventually
from support.workers import Workers

OFTEN = ("--flush-interval-ms", "100")
ON_DEMAND = ("--flush-interval-ms", "600000")


def id_of(process: Process) -> UUID:
    return UUID(process.wait_for("ready")["worker"])


def metrics(process: Process) -> dict[str, float]:
    """What a worker's own page says, by the names after `runlake_ingest_`."""
    with closing(Api(f"http://{process.wait_for('ready')['metrics']}")) as api:
        lines = re.findall(r"^runlake_ingest_(\w+) (\S+)$", api.get("/metrics").text, re.MULTILINE)
    return {name: float(value) for name, value in lines}


def ask_workers(producer: Producer) -> wire.Workers:
    producer.send_frames(wire.encode_frame(wire.WorkersRequest()))
    reply = producer.reply()
    assert isinstance(reply, wire.Workers), reply
    return reply


def refused(producer: Producer, messages: list[Message]) -> wire.NotMine:
    """Send a batch that is another worker's."""
    batch = producer.send(messages)
    reply = producer.reply()
    assert isinstance(reply, wire.NotMine) and reply.batch == batch, reply
    return reply


def of_home(worker: UUID, others: list[UUID], count: int = 1) -> list[Message]:
    """Run events, each of a run of its own, whose home is this worker."""
    found: list[Message] = []
    number = 0
    while len(found) < count:
        number += 1
        message = event(number, f"run-{number}-{worker}")
        if home_of(home_key(message), [worker, *others]) == worker:
            found.append(message)
    return found


def seen_once(workers: Workers) -> int:
    """How many messages the lake has; fails when it has one of them twice."""
    ((count, ids),) = workers.rows(
        "SELECT count(*), count(DISTINCT event_id) FROM"
        " (SELECT event_id FROM {lake}.events UNION ALL SELECT event_id FROM {lake}.run_changes)"
    )
    assert count == ids
    return int(count)


def test_a_worker_that_stands_alone_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.ingest() as worker, Producer(site.ingest_endpoint) as producer:
        alone = ask_workers(producer)
        assert alone == wire.Workers(
            version=0, members=[wire.Member(worker=id_of(worker), endpoint=site.ingest_endpoint)]
        )
        assert worker.terminate() == 0


def test_who_is_not_on_the_list_takes_nothing_and_hands_on_what_is_pushed(workers: Workers) -> None:
    a, b = workers.site("a"), workers.site("b")
    with a.ingest(*OFTEN) as first, b.ingest(*OFTEN) as second, Producer(b.ingest_endpoint) as producer:
        second.wait_for("worker_not_listed")
        only_first = wire.Workers(version=1, members=[wire.Member(worker=id_of(first), endpoint=a.ingest_endpoint)])
        assert ask_workers(producer) == only_first
        assert refused(producer, [*events(3)]).workers == only_first
        assert producer.position().accepted == 0
        pushed = events(20)
        push(b.push_endpoint, payload(pushed))
        eventually(lambda: workers.rows("SELECT count(*) FROM {lake}.events") == [(20,)])
        numbers = workers.rows("SELECT payload->>'number', worker FROM {lake}.events ORDER BY seq")
        assert numbers == [(str(number), id_of(first)) for number in range(20)]
        said = metrics(second)
        assert (said["not_mine_total"], said["forwarded_total"], said["forward_dropped_total"]) == (3, 20, 0)
        assert (said["list_version"], said["members"], said["lease_held"]) == (1, 1, 1)
        for process in (first, second):
            assert process.terminate() == 0


def test_each_message_is_taken_by_its_home_alone_and_a_batch_with_another_s_not_at_all(workers: Workers) -> None:
    a, b = workers.site("a"), workers.site("b")
    with a.ingest(*OFTEN) as first, b.ingest(*OFTEN) as second:
        ids = [id_of(first), id_of(second)]
        assert workers.change("add", str(ids[1])) == 2
        with Producer(a.ingest_endpoint) as to_a, Producer(b.ingest_endpoint) as to_b:
            eventually(lambda: ask_workers(to_a).version == ask_workers(to_b).version == 2)
            mine, other = of_home(ids[0], ids, 3), of_home(ids[1], ids, 2)
            refusal = refused(to_a, [*mine, other[0]])
            assert {member.worker for member in refusal.workers.members} == set(ids)
            assert refused(to_b, mine).workers == refusal.workers
            assert to_a.deliver(mine).accepted == 3 and to_b.deliver(other).accepted == 2
            assert to_a.flush() and to_b.flush()
            assert seen_once(workers) == 5

            def by_list(version: int) -> wire.Reply:
                header = wire.Batch(producer=f"sdk/{version}", batch=1, first=1, count=1, list_version=version)
                to_a.send_frames(wire.encode_frame(header), payload([event()]))
                return to_a.reply()

            assert isinstance(by_list(1), wire.NotMine) and isinstance(by_list(3), wire.NotMine)
            assert isinstance(by_list(2), wire.Ack)
        for process in (first, second):
            assert process.terminate() == 0


def test_after_a_change_all_number_on_behind_what_any_has_given_out_and_know_what_others_took(workers: Workers) -> None:
    a, b = workers.site("a"), workers.site("b")
    with a.ingest(*ON_DEMAND) as first, b.ingest(*ON_DEMAND) as second:
        ids = [id_of(first), id_of(second)]
        moved = of_home(ids[1], ids, 30)
        with Producer(a.ingest_endpoint) as to_a:
            assert to_a.deliver(moved).accepted == 30
        assert workers.change("add") == 2
        with Producer(a.ingest_endpoint) as to_a, Producer(b.ingest_endpoint) as to_b:
            again = to_b.deliver(moved)
            assert again.accepted == 0 and again.duplicate == list(range(30))
            assert to_b.deliver(of_home(ids[1], ids)).first_seq == 32
            assert to_a.deliver(of_home(ids[0], ids)).first_seq == 32
            to_a.flush(), to_b.flush()
        assert seen_once(workers) == 32
        jumps = workers.rows("SELECT worker, first_seq, last_seq FROM {lake}.flushes WHERE first_seq > last_seq")
        assert sorted(jumps) == sorted((worker, 32, 31) for worker in ids)
        for process in (first, second):
            assert process.terminate() == 0
    with a.ingest() as first, Producer(a.ingest_endpoint) as to_a:
        assert to_a.position().flushed == 32
        assert first.terminate() == 0


def test_a_worker_that_is_down_holds_a_change_up_until_it_is_taken_back(workers: Workers) -> None:
    a, b = workers.site("a"), workers.site("b")
    with a.ingest(*OFTEN) as first:
        with b.ingest(*OFTEN, crash_at="change.before_report") as second, workers.command("add") as add:
            gone = id_of(second)
            assert second.wait() == -signal.SIGKILL
            eventually(lambda: any(str(gone) in line and "does not run" in line for line in add.text))
            first.wait_for("workers_changing")  # from here on it takes nothing
            with Producer(a.ingest_endpoint) as producer:
                producer.send(events(5))  # waits: nobody may take anything now
                assert not producer.answered(0.2)
                add.send(signal.SIGINT)
                assert add.wait() == 1 and "taken back" in add.text[-1]
                assert producer.ack().accepted == 5
                assert ask_workers(producer).version == 1
        with b.ingest(*OFTEN) as second:
            assert workers.change("add", str(gone)) == 3
            assert second.terminate() == 0
        assert first.terminate() == 0


def test_a_change_that_had_to_wait_keeps_what_others_changed_meanwhile(workers: Workers) -> None:
    sites = {name: workers.site(name) for name in "abc"}
    with ExitStack() as ends:
        running = {name: ends.enter_context(site.ingest(*OFTEN)) for name, site in sites.items()}
        ids = {name: id_of(process) for name, process in running.items()}
        running["c"].kill()
        add = ends.enter_context(workers.command("add", str(ids["c"])))
        eventually(lambda: any("does not run" in line for line in add.text))
        assert workers.change("add", str(ids["b"])) == 2
        running["c"] = ends.enter_context(sites["c"].ingest(*OFTEN))
        assert add.wait() == 0
        with Producer(sites["a"].ingest_endpoint) as producer:
            eventually(lambda: ask_workers(producer).version == 3)
            assert {member.worker for member in ask_workers(producer).members} == set(ids.values())
        for process in running.values():
            assert process.terminate() == 0


@pytest.mark.parametrize("place", CHANGE_NAMES[1:3])
def test_a_worker_that_is_killed_during_a_change_ends_it_when_it_is_back(workers: Workers, place: str) -> None:
    """And so does the change whose command was killed: from its announcement on it is the workers' affair."""
    a, b = workers.site("a"), workers.site("b")
    with ExitStack() as stack:
        running = {"a": stack.enter_context(a.ingest(*ON_DEMAND, crash_at=place))}
        with Producer(a.ingest_endpoint) as producer:
            producer.deliver(events(7))
        running["b"] = stack.enter_context(b.ingest(*ON_DEMAND, crash_at=place))
        command = stack.enter_context(workers.command("add"))
        eventually(lambda: any(process.ended for process in running.values()))
        command.kill()

        def is_in_force() -> bool:
            for site, name in ((a, "a"), (b, "b")):
                if running[name].ended:
                    running[name] = stack.enter_context(site.ingest(*ON_DEMAND, ready=False))
            return workers.version() == 2

        eventually(is_in_force, 60)
        assert workers.change("add") == 2
        assert seen_once(workers) == 7


def test_what_was_acknowledged_by_a_worker_that_is_gone_comes_from_its_journal(
    workers: Workers, tmp_path: Path
) -> None:
    a, b = workers.site("a"), workers.site("b")
    with a.ingest(*ON_DEMAND) as first, b.ingest(*ON_DEMAND) as second:
        ids = [id_of(first), id_of(second)]
        assert workers.change("add") == 2
        with Producer(b.ingest_endpoint) as to_b:
            taken = of_home(ids[1], ids, 25)
            assert to_b.deliver(taken).accepted == 25
        runs = workers.run("retire", str(ids[1]), "--journal", str(b.data))
        assert runs.returncode == 1 and "runs" in runs.stderr
        second.kill()
        shutil.copytree(b.data, tmp_path / "copy")
        retire = ("retire", str(ids[1]), "--journal", str(tmp_path / "copy"))
        assert workers.run(*retire, crash_at="flush.after_commit").returncode == 1
        assert workers.version() == 2
        assert workers.change(*retire) == 3
        assert seen_once(workers) == 25
        with Producer(a.ingest_endpoint) as to_a:
            assert len(to_a.deliver(taken).duplicate) == 25
        with b.ingest(ready=False) as back:
            assert "was retired" in back.wait_for("cannot_run")["reason"]
            assert back.wait() == 1
        only = workers.run("remove", str(ids[0]))
        assert only.returncode == 1 and "the only one" in only.stderr
        assert first.terminate() == 0


def test_a_worker_whose_disk_is_gone_is_retired_without_its_journal(workers: Workers) -> None:
    a, b = workers.site("a"), workers.site("b")
    with a.ingest(*ON_DEMAND) as first, b.ingest(*ON_DEMAND) as second:
        gone = id_of(second)
        assert workers.change("add") == 2
        second.kill()
        shutil.rmtree(b.data)
        assert workers.run("retire", str(gone)).returncode == 2
        assert workers.change("retire", str(gone), "--journal-lost") == 3
        with Producer(a.ingest_endpoint) as producer:
            assert producer.deliver(events(5)).accepted == 5
        assert first.terminate() == 0


def test_agents_emit_through_changes_and_nothing_is_lost_nor_twice_nor_out_of_order(
    workers: Workers, tmp_path: Path
) -> None:
    sites = [workers.site(name) for name in "abc"]
    with ExitStack() as stack:
        processes = [stack.enter_context(site.ingest(*OFTEN)) for site in sites]
        endpoints = ",".join(site.ingest_endpoint for site in sites)
        stop = threading.Event()
        counts: list[dict[UUID, int]] = []

        def agent(number: int) -> None:
            emitter = Emitter(endpoints, spool=tmp_path / f"spool-{number}")
            runs = [started(f"run-{number}-{one}") for one in range(20)]
            said = {run.event_id: 0 for run in runs}
            counts.append(said)
            for run in runs:
                emitter.emit(run)
            while not stop.wait(0.005):
                for event_id, times in said.items():
                    said[event_id] = times + 1
                    emitter.emit(updated(event_id, items_succeeded=times + 1))
            assert emitter.flush(60)
            assert not emitter.stats().dropped
            emitter.close()

        agents = [threading.Thread(target=agent, args=(number,)) for number in range(3)]
        for one in agents:
            one.start()
        assert workers.change("add") == 2
        assert workers.change("remove", str(id_of(processes[0]))) == 3
        assert workers.change("add", str(id_of(processes[0]))) == 4
        stop.set()
        for one in agents:
            one.join(90)
            assert not one.is_alive()
        for process in processes:
            assert process.terminate() == 0
    emitted = {run: times for said in counts for run, times in said.items()}
    assert len(emitted) == 60
    assert seen_once(workers) == 60 + sum(emitted.values())
    folded = dict(workers.rows("SELECT event_id, items_succeeded FROM {lake}.runs"))
    assert folded == emitted


def test_workers_that_flush_as_fast_as_they_can_store_all_once(workers: Workers) -> None:
    """Their commits meet all the time; one of them merges meanwhile."""
    often = ("--flush-interval-ms", "10", "--maintenance-interval-ms", "100")
    sites = [workers.site(name) for name in "abc"]
    with ExitStack() as stack:
        processes = [stack.enter_context(site.ingest(*often)) for site in sites]
        ids = [id_of(process) for process in processes]
        assert workers.change("add") == 2
        producers = [stack.enter_context(Producer(site.ingest_endpoint)) for site in sites]
        for number in range(40):
            for worker, producer in zip(ids, producers, strict=True):
                assert producer.deliver(of_home(worker, ids, 3)).accepted == 3, number
        for producer in producers:
            producer.flush()
        wait_until(lambda: any(elected(process) for process in processes), "one looks after the lake")
        for process in processes:
            assert process.terminate() == 0
            assert not any(line.get("level") == "error" for line in process.log)
    assert seen_once(workers) == 360
    assert workers.rows("SELECT sum(accepted), sum(received) FROM {lake}.deliveries") == [(360, 360)]


def elected(process: Process) -> bool:
    return any(line.get("event") == "maintenance" for line in process.log)
