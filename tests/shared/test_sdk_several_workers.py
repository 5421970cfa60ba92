"""Several workers: each message goes to its home, in order, and what one of them does is no other's concern."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from runlake import wire
from runlake.emitter import Emitter
from runlake.entrypoints import bound_to, entry_points, same_cluster
from runlake.messages import Message, RunEvent
from support.agents import run_agent, start_agent
from support.emitting import event, numbers
from support.homeworkers import Workers
from support.router import Ledger, Received, Router, accept, ipc
from support.waiting import eventually

KILL = "os.kill(os.getpid(), signal.SIGKILL)"
RUNS = [UUID(int=number) for number in range(50)]


def step(number: int) -> RunEvent:
    """A numbered event of one of fifty runs."""
    run = RUNS[number % len(RUNS)]
    return RunEvent(
        event_id=uuid4(), run_id="run", run_event_id=run, ts=datetime.now(UTC), type="step", payload={"n": number}
    )


EMIT_STEPS = """
def emit_steps(numbers):
    for n in numbers:
        runlake.emit(runlake.RunEvent(event_id=uuid.uuid4(), run_id="run", run_event_id=uuid.UUID(int=n % 50), type="t",
                     payload={"n": n}, ts=datetime.datetime.now(datetime.UTC)))
"""


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def of_run(messages: Iterable[Message], run: UUID) -> list[int]:
    return numbers(message for message in messages if isinstance(message, RunEvent) and message.run_event_id == run)


def assert_all_there(workers: Workers, count: int) -> None:
    """Each of the steps 0, 1, 2 … once, at its home, in the order of its run, and no gap in the numbers."""
    assert sorted(n for n in numbers(workers.messages) if n >= 0) == list(range(count))
    assert workers.gaps == 0
    for worker in workers.all:
        assert all(worker.is_home(message) for message in worker.messages)
        for run in RUNS:
            assert of_run(worker.messages, run) == sorted(of_run(worker.messages, run))


def segments(spool: Path) -> list[Path]:
    return [Path(folder, name) for folder, _, names in os.walk(spool) for name in names if name.endswith(".seg")]


# Each message to its home


@pytest.mark.parametrize("where", ["spool", "memory"])
@pytest.mark.parametrize("entries", ["one", "all"])
def test_each_message_goes_to_its_home_in_order_whichever_worker_was_told(
    tmp_path: Path, spool: Path, entries: str, where: str
) -> None:
    with Workers(tmp_path, 3) as workers:
        told = workers.endpoints if entries == "all" else workers.all[1].endpoint
        emitter = Emitter(told, spool=spool if where == "spool" else "off")
        for number in range(5_000):
            emitter.emit(step(number))
        assert emitter.flush(30)
        assert_all_there(workers, 5_000)
        stats = emitter.stats()
        assert (stats.accepted, stats.acknowledged, stats.sent, stats.queued) == (5_000, 5_000, 5_000, 0)
        assert stats.connected
        assert {worker.worker for worker in stats.workers} == {str(worker.id) for worker in workers.all}
        assert sum(worker.acknowledged for worker in stats.workers) == 5_000
        assert all(worker.connected and worker.in_flight == 0 for worker in stats.workers)
        assert emitter.close()
    if entries == "all":
        assert [worker.refused for worker in workers.all] == [0, 0, 0]
    if where == "spool":
        assert list(spool.iterdir()) == []


def test_a_worker_that_is_down_delays_its_own_messages_alone(tmp_path: Path, spool: Path) -> None:
    with Workers(tmp_path, 3) as workers:
        down = workers.all[2]
        down.stop()
        emitter = Emitter(workers.endpoints, spool=spool)
        for number in range(2_000):
            emitter.emit(step(number))
        theirs = sum(not down.is_home(step(number)) for number in range(2_000))
        eventually(lambda: emitter.stats().acknowledged == theirs)
        assert not emitter.flush(0.05)
        stats = emitter.stats()
        assert (stats.queued, stats.connected) == (2_000 - theirs, False)
        assert {worker.worker: worker.connected for worker in stats.workers}[str(down.id)] is False
        down.start()
        assert emitter.flush(30)
        assert_all_there(workers, 2_000)
        assert emitter.close()
    assert list(spool.iterdir()) == []


def test_p6_in_memory_a_worker_that_is_down_costs_no_more_than_the_bound(tmp_path: Path) -> None:
    with Workers(tmp_path, 2) as workers:
        down = workers.all[1]
        down.stop()
        emitter = Emitter(workers.endpoints, spool="off", queue_messages=500)
        for number in range(10_000):
            emitter.emit(step(number))
        eventually(lambda: emitter.stats().workers[0].acknowledged > 0)
        dropped = emitter.stats().dropped["queue_full"]
        assert dropped >= 9_000
        down.start()
        assert emitter.flush(30)
        assert len(workers.messages) == 10_000 - emitter.stats().dropped["queue_full"]
        assert emitter.stats().queued == 0
        assert workers.gaps == 0
        assert emitter.close()


def test_without_a_spool_what_a_worker_that_is_down_did_not_get_is_counted_when_the_emitter_closes(
    tmp_path: Path,
) -> None:
    with Workers(tmp_path, 2) as workers:
        down = workers.all[1]
        down.stop()
        emitter = Emitter(workers.endpoints, spool="off")
        for number in range(1_000):
            emitter.emit(step(number))
        theirs = sum(not down.is_home(step(number)) for number in range(1_000))
        eventually(lambda: emitter.stats().acknowledged == theirs)
        assert not emitter.close(0)
        stats = emitter.stats()
        assert (stats.dropped, stats.queued) == ({"undelivered": 1_000 - theirs}, 0)


def test_p6_a_full_spool_gives_up_the_oldest_of_a_worker_that_is_down_and_counts_them(
    tmp_path: Path, spool: Path
) -> None:
    with Workers(tmp_path, 2) as workers:
        down = workers.all[1]
        down.stop()
        emitter = Emitter(workers.endpoints, spool=spool, spool_max_mb=1, spool_full="drop-oldest")
        count = 0
        while not emitter.stats().dropped.get("displaced"):
            for _ in range(500):
                emitter.emit(step(count))
                count += 1
            emitter.flush(0.02)
        down.start()
        assert emitter.flush(30)
        dropped = emitter.stats().dropped
        assert set(dropped) <= {"displaced", "spool_full"}
        assert len(workers.messages) == count - sum(dropped.values())
        last = max(of_run(down.messages, run)[-1] for run in RUNS if of_run(down.messages, run))
        assert last >= count - 100 or "spool_full" in dropped
        assert (emitter.stats().queued, workers.gaps) == (0, 0)
        assert emitter.close()


# The list changes


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("where", ["spool", "memory"])
def test_when_the_list_changes_nothing_is_lost_and_no_number_is_missing(
    tmp_path: Path, spool: Path, where: str, seed: int
) -> None:
    drawn = random.Random(seed)
    with Workers(tmp_path, 4) as workers:
        workers.change(workers.all[:1])
        emitter = Emitter(workers.all[0].endpoint, spool=spool if where == "spool" else "off")
        count = 0
        for chosen in (3, 4, 2, 1, 4):
            for _ in range(drawn.randrange(1, 2_000)):
                emitter.emit(step(count))
                count += 1
            if drawn.random() < 0.5:
                emitter.flush(30)
            told = workers.list(drawn.sample(workers.all, chosen))
            for worker in drawn.sample(workers.all, len(workers.all)):  # one after the other
                worker.know(told)
                for _ in range(drawn.randrange(300)):
                    emitter.emit(step(count))
                    count += 1
        emitter.emit(step(count))
        assert emitter.flush(30)
        # Some arrive twice: by the fourth list a worker may be sent what another had by the first.
        assert set(numbers(workers.messages)) == set(range(count + 1))
        for worker in workers.all:
            list_of = {received.header.producer: received.header.list_version for received in worker.taken}
            assert all(list_of[taken.header.producer] == taken.header.list_version for taken in worker.taken)
            for run in RUNS:
                assert of_run(worker.messages, run) == sorted(of_run(worker.messages, run))
        assert workers.gaps == 0
        stats = emitter.stats()
        assert (stats.emitted, stats.acknowledged, stats.queued) == (count + 1, count + 1, 0)
        assert stats.accepted + stats.duplicates + stats.rejected == count + 1
        assert emitter.close()


def test_an_idle_agent_hears_of_a_new_list_from_the_first_that_it_sends_to(tmp_path: Path) -> None:
    with Workers(tmp_path, 3) as workers:
        workers.change(workers.all[:2])
        emitter = Emitter(workers.all[0].endpoint, spool="off")
        for number in range(100):
            emitter.emit(step(number))
        assert emitter.flush(30)
        workers.change(workers.all)
        for number in range(100, 1_000):
            emitter.emit(step(number))
        assert emitter.flush(30)
        assert len(emitter.stats().workers) == 3
        assert workers.all[2].messages
        assert workers.gaps == 0
        assert emitter.close()


def test_a_worker_that_was_replaced_while_it_was_down_is_heard_of_from_the_others(tmp_path: Path) -> None:
    with Workers(tmp_path, 3) as workers:
        stays, gone, new = workers.all
        workers.change([stays, gone])
        emitter = Emitter(stays.endpoint, spool="off")
        emitter.emit(step(0))
        assert emitter.flush(30)
        gone.stop()
        mine = next(number for number in range(1, 100) if gone.is_home(step(number)))
        told = workers.list([stays, new])
        gone.know(told)
        new.know(told)
        eventually(lambda: not emitter.stats().connected)
        stays.known = told  # it says so when it is asked, and is sent nothing that is not its own
        assert stays.router is not None
        stays.router.workers = told
        emitter.emit(step(mine))
        assert emitter.flush(30)
        assert set(numbers(workers.messages)) == {0, mine}
        assert emitter.close()


def test_when_all_workers_have_moved_the_entry_points_tell_where_they_are(tmp_path: Path) -> None:
    with Workers(tmp_path, 4) as workers:
        entry, *others = workers.all
        workers.change(others[:2])
        entry.know(others[0].known)
        emitter = Emitter(entry.endpoint, spool="off")
        emitter.emit(step(0))
        assert emitter.flush(30)
        assert not entry.messages
        for worker in others[:2]:
            worker.stop()
        told = workers.list([others[2], entry])
        for worker in workers.all:
            worker.know(told)
        for number in range(1, 200):
            emitter.emit(step(number))
        assert emitter.flush(30)
        assert set(numbers([*others[2].messages, *entry.messages])) | {0} == set(range(200))
        assert emitter.close()


def test_a_worker_with_another_list_is_asked_again_and_again_but_rarely(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Workers(tmp_path, 2) as workers:
        one, late = workers.all
        old = late.known
        emitter = Emitter(workers.endpoints, spool="off")
        emitter.emit(step(0))
        assert emitter.flush(30)
        one.know(workers.list(workers.all))
        for number in range(1, 500):
            emitter.emit(step(number))
        eventually(lambda: late.refused >= 4)
        assert late.known is old
        assert late.refused < 40
        late.know(one.known)
        assert emitter.flush(30)
        assert set(numbers(workers.messages)) == set(range(500))
        assert workers.gaps == 0
        assert emitter.close()
    assert sum("list of workers" in record.message for record in caplog.records) == 1


# One worker


@pytest.mark.parametrize("version", [None, 0, 7])
def test_one_worker_is_sent_its_first_batch_before_the_question_and_is_never_left(
    tmp_path: Path, version: int | None
) -> None:
    heard: list[str] = []
    ledger = Ledger()

    def script(received: Received) -> list[wire.Reply | bytes]:
        heard.append(f"batch, {router.asked} questions before")
        assert received.header.list_version == 0
        return [ledger.accept(received)]

    with Router(ipc(tmp_path), script) as router:
        if version is not None:
            member = wire.Member(worker=uuid4(), endpoint="tcp://127.0.0.1:1")  # as it is reached from elsewhere
            router.workers = wire.Workers(version=version, members=[member])
        emitter = Emitter(router.endpoint, spool="off")
        emitter.emit(event(0))
        assert emitter.flush()
        assert heard == ["batch, 0 questions before"]
        eventually(lambda: router.asked == 1)
        for number in range(1, 3_000):
            emitter.emit(event(number))
        assert emitter.flush()
        assert numbers(ledger.messages) == list(range(3_000))
        assert {received.header.producer for received in router.received} == {emitter.stats().producer}
        stats = emitter.stats()
        assert (stats.protocol_errors, stats.reconnects, len(stats.workers), router.asked) == (0, 0, 1, 1)
        assert stats.workers[0].acknowledged == 3_000
        assert emitter.close()


def test_of_several_entry_points_those_that_do_not_answer_are_passed_over(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:  # an older worker: it does not know the question, and stands alone
        emitter = Emitter(f"{ipc(tmp_path, 'nobody')},carrier pigeon, {router.endpoint}", spool="off")
        emitter.emit(event(1))
        assert emitter.flush(30)
        assert numbers(router.messages) == [1]
        assert emitter.stats().protocol_errors == 0
        assert emitter.close()


def test_an_entry_point_that_is_silent_is_sent_nothing(tmp_path: Path) -> None:
    silent = Router(ipc(tmp_path, "silent"), accept)
    silent.silent = True
    with silent, Router(ipc(tmp_path)) as router:
        emitter = Emitter(f"{silent.endpoint},{router.endpoint}", spool="off", ack_timeout_s=1.0)
        emitter.emit(event(1))
        assert emitter.flush(30)
        assert (numbers(router.messages), silent.received, silent.asked) == ([1], [], 1)
        assert emitter.close()


# The spool of several


def test_entry_points_are_told_in_any_order_and_share_a_cluster() -> None:
    assert entry_points(" tcp://b:1, tcp://a:1 ,,tcp://b:1") == ("tcp://b:1", "tcp://a:1")
    assert bound_to("tcp://b:1,tcp://a:1") == bound_to("tcp://a:1, tcp://b:1") == "tcp://a:1,tcp://b:1"
    assert same_cluster("tcp://a:1,tcp://c:1", "tcp://b:1,tcp://a:1")
    assert not same_cluster("tcp://a:1", "tcp://a:12")
    many = ",".join(f"tcp://a-worker-with-a-long-name-{number}.example.org:8766" for number in range(100))
    assert 0 < len(bound_to(many)) <= 600
    assert same_cluster(many, bound_to(many))


@pytest.mark.parametrize("seed", range(2))
def test_p7_after_a_kill_9_with_three_workers_the_next_process_delivers_and_no_gap_shows(
    tmp_path: Path, spool: Path, seed: int
) -> None:
    program = EMIT_STEPS + "emit_steps(range(6_000))\nprint('out', flush=True)\nsys.stdin.readline()\n"
    with Workers(tmp_path, 3) as workers:
        down = workers.all[seed]
        down.stop()
        with start_agent(program, workers.endpoints, spool) as agent:
            assert agent.stdout
            assert agent.stdout.readline() == "out\n"
            if seed:
                eventually(lambda: len(workers.messages) > 2_000)
            agent.kill()
            agent.communicate()
        down.start()
        told = ",".join(reversed(workers.endpoints.split(",")))
        emitter = Emitter(told, spool=spool)
        emitter.emit(event(-1))
        eventually(lambda: len(workers.messages) == 6_001)
        eventually(lambda: len({path.parent for path in segments(spool)}) <= 1)  # its own
        assert emitter.flush(30)
        assert_all_there(workers, 6_000)
        assert emitter.close()
    assert list(spool.iterdir()) == []


def test_what_one_worker_alone_was_to_get_and_what_several_were_is_adopted_by_either(
    tmp_path: Path, spool: Path
) -> None:
    with Workers(tmp_path, 3) as workers:
        first = workers.all[0]
        status, _, _ = run_agent(EMIT_STEPS + f"emit_steps(range(1_000))\n{KILL}", first.endpoint, spool)
        assert status == -signal.SIGKILL
        emitter = Emitter(workers.endpoints, spool=spool)  # of several
        emitter.emit(event(-1))
        eventually(lambda: emitter.stats().adopted == 1_000)
        assert emitter.flush(30)
        assert emitter.close()
        assert_all_there(workers, 1_000)

        for worker in workers.all[1:]:
            worker.stop()
        program = EMIT_STEPS + f"emit_steps(range(1_000, 2_000))\nrunlake.flush(0.5)\n{KILL}"
        status, _, _ = run_agent(program, workers.endpoints, spool)
        assert status == -signal.SIGKILL
        workers.change([first])
        emitter = Emitter(first.endpoint, spool=spool)  # alone again
        emitter.emit(step(2_000))
        eventually(lambda: set(numbers(workers.messages)) == set(range(-1, 2_001)))
        assert emitter.flush(30)
        eventually(lambda: len({path.parent for path in segments(spool)}) <= 1)
        assert workers.gaps == 0
        assert emitter.close()
    assert list(spool.iterdir()) == []


def test_a_worker_that_is_down_keeps_no_spool_of_another_process_from_the_others(tmp_path: Path, spool: Path) -> None:
    with Workers(tmp_path, 2) as workers:
        up, down = workers.all
        down.stop()
        up.stop()
        for first in (0, 1_000, 2_000):
            program = EMIT_STEPS + f"emit_steps(range({first}, {first + 1_000}))\n" + KILL
            assert run_agent(program, workers.endpoints, spool)[0] == -signal.SIGKILL
        up.start()
        emitter = Emitter(workers.endpoints, spool=spool)
        emitter.emit(event(-1))
        theirs = [number for number in range(3_000) if up.is_home(step(number))]
        eventually(lambda: {n for n in numbers(up.messages) if n >= 0} == set(theirs))
        eventually(lambda: emitter.stats().adopted == len(theirs))
        assert not workers.all[1].messages
        down.start()
        eventually(lambda: emitter.stats().adopted == 3_000)
        assert emitter.flush(30)
        assert_all_there(workers, 3_000)
        assert emitter.close()
    assert list(spool.iterdir()) == []


def test_a_deliverer_that_dies_leaves_the_rest_to_the_next_and_no_gap(tmp_path: Path, spool: Path) -> None:
    program = EMIT_STEPS + "emit_steps(range(3_000))\n" + KILL
    with Workers(tmp_path, 2) as workers:
        down = workers.all[1]
        down.stop()
        status, _, _ = run_agent(program, workers.endpoints, spool)
        assert status == -signal.SIGKILL
        second = "emit(-1)\nprint('up', flush=True)\nsys.stdin.readline()\n"
        with start_agent(second, workers.endpoints, spool) as agent:
            eventually(lambda: len(workers.all[0].messages) > 1_000)
            agent.kill()
            agent.communicate()
        down.start()
        emitter = Emitter(workers.endpoints, spool=spool)
        emitter.emit(event(-1))
        assert emitter.flush(30)
        eventually(lambda: set(numbers(workers.messages)) == set(range(-1, 3_000)))
        eventually(lambda: len({path.parent for path in segments(spool)}) <= 1)
        assert workers.gaps == 0
        assert Counter(n for n in numbers(workers.messages) if n >= 0).most_common(1)[0][1] == 1
        assert emitter.close()
    assert list(spool.iterdir()) == []


def test_a_forked_child_of_a_parent_with_several_workers_sends_its_own_alone(tmp_path: Path, spool: Path) -> None:
    program = (
        EMIT_STEPS
        + """
emit_steps(range(300))
assert runlake.flush(30)
child = os.fork()
if not child:
    emit_steps(range(1_000, 1_300))
    runlake.close(30)
    os._exit(0)
emit_steps(range(300, 600))
os.waitpid(child, 0)
assert runlake.close(30)
"""
    )
    with Workers(tmp_path, 3) as workers:
        status, _, errors = run_agent(program, workers.endpoints, spool)
        assert (status, errors) == (0, "")
        assert sorted(numbers(workers.messages)) == [*range(600), *range(1_000, 1_300)]
        assert workers.gaps == 0
    assert list(spool.iterdir()) == []
