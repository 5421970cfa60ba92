"""The emitter's promises to its agent: bounds, odd values, flush and close, forks, the end of the interpreter."""

from __future__ import annotations

import gc
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

import runlake
from runlake import wire
from runlake.emitter import Emitter
from runlake.link import enough_descriptors
from runlake.messages import Message, RunEvent
from support.emitting import event, numbers
from support.router import Die, Ledger, Received, Router, ack, ipc
from support.waiting import eventually


def test_a_full_queue_refuses_the_newest_messages_and_counts_them(tmp_path: Path) -> None:
    emitter = Emitter(ipc(tmp_path), spool="off", queue_messages=100)
    for number in range(150):
        emitter.emit(event(number))
    stats = emitter.stats()
    assert (stats.emitted, stats.queued, stats.dropped) == (150, 100, {"queue_full": 50})
    with Router(ipc(tmp_path)) as router:
        assert emitter.flush()
        assert numbers(router.messages) == list(range(100))
        emitter.emit(event(200))
        assert emitter.close()
        assert numbers(router.messages)[-1] == 200


def test_large_messages_are_bounded_by_their_bytes_and_make_room_when_they_leave(tmp_path: Path) -> None:
    emitter = Emitter(ipc(tmp_path), spool="off", queue_bytes=100 * 1024)
    for number in range(20):
        emitter.emit(event(number, text="x" * 10_000))
    stats = emitter.stats()
    assert 10 <= stats.queued <= 11
    assert stats.dropped == {"queue_full": 20 - stats.queued}
    with Router(ipc(tmp_path)) as router:
        assert emitter.flush()
        for _ in range(3):
            for number in range(10):
                emitter.emit(event(number, text="x" * 10_000))
            assert emitter.flush()
        assert len(router.messages) == stats.queued + 30
        assert emitter.close()


def test_a_message_larger_than_the_wire_takes_is_cut_and_counted(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint)
        emitter.emit(event(1, text="x" * wire.MAX_MESSAGE_BYTES))
        emitter.emit(event(2))
        assert emitter.close()
        assert numbers(router.messages) == [1, 2]
        assert emitter.stats().dropped == {}
        assert emitter.stats().described == 1


def test_what_is_no_message_is_dropped_and_counted(tmp_path: Path) -> None:
    emitter = Emitter(ipc(tmp_path))
    for thing in ({"kind": "run.event"}, None, "text", object()):
        emitter.emit(cast(Message, thing))
    assert emitter.stats().dropped == {"not_a_message": 4}
    assert emitter.close()


@dataclass
class Point:
    x: int


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


class Worse:
    def __repr__(self) -> str:
        raise RuntimeError("not even this")


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


def _deep(levels: int) -> dict[str, Any]:
    return {"deeper": _deep(levels - 1)} if levels else {}


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ({3}, [3]),
        ((1, "a"), [1, "a"]),
        (deque([1, 2]), [1, 2]),
        (Point(3), {"x": 3}),
        (PurePosixPath("/a/b"), "/a/b"),
        (b"\x00\xff", b"\x00\xff"),
        (Odd(), "<odd>"),
        (Worse(), "<Worse>"),
        (ValueError("no"), {"type": "ValueError", "message": "no"}),
        (10**30, "1" + "0" * 30),
        ("\ud800", "?"),
        ({1: "a", (2, 3): "b"}, {"1": "a", "(2, 3)": "b"}),
        ([{None: 1}], [{"None": 1}]),
        (math.inf, "Infinity"),
        (UUID(int=1), str(UUID(int=1))),
    ],
)
def test_values_that_messagepack_cannot_hold_go_out_in_a_plain_form(tmp_path: Path, value: Any, arrives: Any) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint)
        emitter.emit(event(1, value=value))
        assert emitter.close()
        (message,) = router.messages
        assert isinstance(message, RunEvent)
        assert message.payload == {"n": 1, "value": arrives}
        assert emitter.stats().dropped == {}


@pytest.mark.parametrize("value", [_cycle(), _deep(100), [[_deep(40)], {1: {2: {3: Odd()}}}], "x" * 5_000, Odd()])
def test_cycles_and_deep_maps_arrive_in_a_form_that_the_worker_accepts(tmp_path: Path, value: Any) -> None:
    from runlake.validation import validate

    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint)
        emitter.emit(event(1, value=value))
        assert emitter.close()
        (message,) = router.messages
        validate(message, datetime.now(UTC))
        assert emitter.stats().dropped == {}


def test_values_that_became_descriptions_are_counted_and_cut(tmp_path: Path) -> None:
    class Long:
        def __repr__(self) -> str:
            return "y" * 100_000

    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint)
        emitter.emit(event(1, value=Long()))
        assert emitter.close()
        assert emitter.stats().described == 1
        (message,) = router.messages
        assert isinstance(message, RunEvent)
        assert message.payload
        assert message.payload["value"] == "y" * 1_023 + "…"


def test_a_message_that_cannot_be_encoded_at_all_is_dropped_and_counted(tmp_path: Path) -> None:
    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError

        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise RuntimeError

    emitter = Emitter(ipc(tmp_path))
    emitter.emit(event(1, value=Bad()))
    stats = emitter.stats()
    assert stats.emitted == sum(stats.dropped.values()) + stats.queued == 1
    emitter.close(0)


def test_a_payload_that_changes_after_emit_arrives_as_it_was(tmp_path: Path) -> None:
    payload = {"n": 1}
    emitter = Emitter(ipc(tmp_path))
    emitter.emit(RunEvent(event_id=uuid4(), run_id="r", ts=datetime.now(UTC), type="t", payload=payload))
    payload["n"] = 2
    with Router(ipc(tmp_path)) as router:
        assert emitter.close()
        assert numbers(router.messages) == [1]


@pytest.mark.parametrize("spool", [None, "off"])
def test_p6_emit_makes_no_system_call_while_it_fills_what_is_there(tmp_path: Path, spool: str | None) -> None:
    emitter = Emitter(ipc(tmp_path), spool=spool, queue_messages=300_000)
    message = event()
    emitter.emit(message)
    before = _switches()
    for _ in range(200_000):
        emitter.emit(message)
    voluntary = _switches() - before
    emitter.close(0)
    assert voluntary < 2_000  # handing the interpreter to the sender's thread every 5 ms, not one wait a message


def _switches() -> int:
    """How often this thread gave up its processor by itself."""
    status = Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary_ctxt"))


# Flush and close


def test_flush_and_close_of_an_unused_emitter_are_true_at_once() -> None:
    emitter = Emitter("ipc:///nobody/there")
    assert emitter.flush(0)
    assert emitter.close(0)
    assert emitter.flush(0)
    assert emitter.close(0)


def test_flush_is_false_in_time_when_nobody_answers(tmp_path: Path) -> None:
    emitter = Emitter(ipc(tmp_path))
    emitter.emit(event())
    started = time.monotonic()
    assert not emitter.flush(0.2)
    assert 0.15 < time.monotonic() - started < 5
    emitter.close(0)


def test_several_threads_may_flush_at_once(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint)
        done: list[bool] = []

        def work() -> None:
            for number in range(50):
                emitter.emit(event(number))
                done.append(emitter.flush())

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == [True] * 200
        assert emitter.close()


def test_flush_holds_also_when_nothing_but_flushes_is_queued(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint)
        emitter.emit(event())
        assert all(emitter.flush() for _ in range(3))
        assert emitter.close()


def test_close_delivers_what_is_queued_and_later_messages_are_dropped_and_counted(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint)
        for number in range(700):
            emitter.emit(event(number))
        assert emitter.close()
        emitter.emit(event(700))
        assert numbers(router.messages) == list(range(700))
        assert emitter.stats().dropped == {"closed": 1}
        assert emitter.close()
        assert emitter.flush()
        assert not emitter.stats().connected


def test_without_a_spool_close_gives_up_at_its_deadline_and_counts_what_it_leaves(tmp_path: Path) -> None:
    emitter = Emitter(ipc(tmp_path), spool="off")
    for number in range(5):
        emitter.emit(event(number))
    started = time.monotonic()
    assert not emitter.close(0.2)
    assert time.monotonic() - started < 5
    stats = emitter.stats()
    assert (stats.emitted, stats.queued, stats.dropped) == (5, 0, {"undelivered": 5})
    assert not emitter.flush(0)
    assert not emitter.close(0)


def test_the_books_balance_while_a_worker_is_silent(tmp_path: Path) -> None:
    with Router(ipc(tmp_path), lambda received: []) as router:
        emitter = Emitter(router.endpoint, spool="off", queue_messages=1_000)
        for number in range(5_000):
            emitter.emit(event(number))
        eventually(lambda: router.received)
        stats = emitter.stats()
        assert stats.emitted == stats.queued + stats.acknowledged + sum(stats.dropped.values()) == 5_000
        emitter.close(0)
        stats = emitter.stats()
        assert stats.emitted == stats.acknowledged + sum(stats.dropped.values()) == 5_000


def test_a_signal_handler_may_emit_flush_and_close_in_the_middle_of_anything(tmp_path: Path) -> None:
    ledger = Ledger()
    with Router(ipc(tmp_path), lambda received: [ledger.accept(received)]) as router:
        emitter = Emitter(router.endpoint)
        handled = 0

        def handle(number: int, frame: object) -> None:
            nonlocal handled
            handled += 1
            emitter.emit(event(-1))
            emitter.stats()
            if handled % 10 == 0:
                assert emitter.flush(5)
            signal.setitimer(signal.ITIMER_REAL, 0.001)  # the next one comes when this one is done

        before = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        try:
            sent = 0
            while handled < 100:
                emitter.emit(event(sent))
                sent += 1
                if sent % 500 == 0:
                    assert emitter.flush(5)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert emitter.close(10)
        stats = emitter.stats()
        assert stats.emitted == stats.accepted + sum(stats.dropped.values()) == sent + handled
        arrived = [number for number in numbers(ledger.messages) if number >= 0]
        assert arrived == sorted(arrived)


def test_warnings_come_from_the_sender_and_only_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    emitter = Emitter(ipc(tmp_path), spool="off", queue_messages=1)
    for number in range(100):
        emitter.emit(event(number))
    eventually(lambda: caplog.records)
    for number in range(100):
        emitter.emit(event(number))
    emitter.close(0.1)
    assert [record.threadName for record in caplog.records if "queue is full" in record.message] == ["runlake-sender"]


def test_an_emitter_that_nobody_holds_any_more_ends_its_thread(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint)
        emitter.emit(event(1))
        assert emitter.flush()
        thread = next(thread for thread in threading.enumerate() if thread.name == "runlake-sender")
        del emitter
        gc.collect()
        thread.join(5)
        assert not thread.is_alive()


# The default emitter


def test_the_default_emitter_is_configured_used_and_replaced(tmp_path: Path) -> None:
    with Router(ipc(tmp_path, "a")) as first, Router(ipc(tmp_path, "b")) as second:
        runlake.configure(endpoint=first.endpoint)
        runlake.emit(event(1))
        runlake.configure(endpoint=second.endpoint, queue_messages=10)
        runlake.emit(event(2))
        assert runlake.flush()
        assert (numbers(first.messages), numbers(second.messages)) == ([1], [2])
        assert runlake.stats().accepted == 1
        assert runlake.close()


def test_wrong_options_are_told_and_do_not_stop_the_agent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Router(ipc(tmp_path)) as router:
        monkeypatch.setenv("RUNLAKE_INGEST", router.endpoint)
        runlake.configure(queue_messages="many", colour="red")
        runlake.emit(event(1))
        assert runlake.flush()
        assert runlake.close()
        assert numbers(router.messages) == [1]
        told = " ".join(record.message for record in caplog.records)
        assert "colour" in told
        assert "wrong value" in told


# Processes


def test_a_forked_child_sends_its_own_messages_and_none_of_its_parents(tmp_path: Path) -> None:
    emitter = Emitter(ipc(tmp_path))
    for number in range(10):
        emitter.emit(event(number))  # still queued: nobody is there yet
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert emitter.stats().emitted == 0
            for number in range(100, 110):
                emitter.emit(event(number))
            code = 0 if emitter.close(20) else 2
        finally:
            os._exit(code)
    with Router(ipc(tmp_path)) as router:
        assert emitter.close(20)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        by_producer: dict[str, list[int]] = {}
        for received in router.received:
            by_producer.setdefault(received.header.producer, []).extend(numbers(received.messages))
        assert sorted(by_producer.values()) == [list(range(10)), list(range(100, 110))]
        assert len({message.event_id for message in router.messages}) == 20


def test_a_child_of_a_connected_parent_leaves_its_connection_alone(tmp_path: Path) -> None:
    program = (
        "import os, sys, runlake\n"
        "runlake.configure(endpoint=sys.argv[1])\n"
        "with runlake.track_run('parent', 'fork') as run:\n"
        "    assert runlake.flush()\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        with runlake.track_run('child', 'fork'): pass\n"
        "        assert runlake.flush()\n"
        "        sys.exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "    for number in range(1000): run.event('step', {'n': number})\n"
    )
    ledger = Ledger()
    with Router(ipc(tmp_path), lambda received: [ledger.accept(received)]) as router:
        subprocess.run([sys.executable, "-c", program, router.endpoint], check=True, timeout=60)
        assert numbers(ledger.messages) == list(range(1_000))
        started = [message for message in ledger.messages if isinstance(message, runlake.RunStarted)]
        assert [message.agent_name for message in started] == ["parent", "child"]
        assert started[1].parent_run_id == started[0].run_id


@pytest.mark.parametrize("ending", ["pass", "sys.exit(3)", "raise ValueError('on purpose')"])
def test_what_was_emitted_is_delivered_when_the_interpreter_ends(tmp_path: Path, ending: str) -> None:
    program = (
        "import sys, runlake, datetime, uuid\n"
        "for n in range(2000):\n"
        "    runlake.emit(runlake.RunEvent(event_id=uuid.uuid4(), run_id='r', type='t', payload={'n': n},\n"
        "                 ts=datetime.datetime.now(datetime.UTC)))\n"
        f"{ending}\n"
    )
    with Router(ipc(tmp_path)) as router:
        environment = {**os.environ, "RUNLAKE_INGEST": router.endpoint}
        ended = subprocess.run(
            [sys.executable, "-c", program], env=environment, timeout=60, capture_output=True, text=True, check=False
        )
        assert ended.returncode == {"pass": 0, "sys.exit(3)": 3}.get(ending, 1)
        assert numbers(router.messages) == list(range(2_000))
        assert "RunLake" not in ended.stderr


@pytest.mark.parametrize("delivered", [0, 1])
@pytest.mark.parametrize("free", range(9))
def test_an_agent_short_of_file_descriptors_goes_on_and_delivers_when_it_has_some(
    tmp_path: Path, free: int, delivered: int
) -> None:
    program = (
        "import datetime, logging, os, resource, sys, threading, uuid\n"
        "from runlake.emitter import Emitter\n"
        "from runlake.messages import RunEvent\n"
        "free, delivered = int(sys.argv[2]), int(sys.argv[3])\n"
        "told = threading.Event()\n"
        "class Handler(logging.Handler):\n"
        "    def emit(self, record):\n"
        "        if 'ulimit' in record.getMessage(): told.set()\n"
        "logging.getLogger('runlake').addHandler(Handler())\n"
        "emitter = Emitter(sys.argv[1])\n"
        "def emit(n):\n"
        "    emitter.emit(RunEvent(event_id=uuid.uuid4(), run_id='r', type='t', payload={'n': n},\n"
        "                 ts=datetime.datetime.now(datetime.UTC)))\n"
        "for n in range(delivered):\n"
        "    emit(n)\n"
        "    assert emitter.flush(20)\n"
        "limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, most))\n"
        "taken = []\n"
        "try:\n"
        "    while True: taken.append(os.dup(0))\n"
        "except OSError: pass\n"
        "for _ in range(free): os.close(taken.pop())\n"
        "emit(delivered)\n"
        "assert told.wait(20)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))\n"
        "assert emitter.close(20)\n"
        "assert emitter.stats().accepted == delivered + 1\n"
    )
    dying = delivered  # the worker: so that a second link is needed

    def script(received: Received) -> list[wire.Ack]:
        nonlocal dying
        if dying and received.header.batch == 2:
            dying = 0
            raise Die
        return [ack(received.header)]

    with Router(ipc(tmp_path), script) as router:
        command = [sys.executable, "-c", program, router.endpoint, str(free), str(delivered)]
        ended = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert numbers(router.messages)[-1] == delivered


def test_descriptors_are_counted_also_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(path: str) -> list[str]:
        raise PermissionError(path)

    monkeypatch.setattr(os, "listdir", unreadable)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    assert enough_descriptors()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 2, before[1]))
        assert not enough_descriptors()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    again = os.dup(0)
    os.close(again)
    assert again == lowest  # all that it opened is closed


def test_without_worker_and_spool_the_interpreter_ends_in_time_and_tells_what_was_lost() -> None:
    program = (
        "import runlake\nrunlake.configure(endpoint='ipc:///nobody/there', exit_timeout_s=0.2, spool='off')\n"
        "with runlake.track_run('a', 'b'): pass\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=30, capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert "2 messages undelivered" in ended.stderr
