"""Agents with many processes, threads and tasks: each emits for itself, and nothing is lost or sent twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from runlake.spoolorphans import adopt, facts, folders
from support.agents import run_agent, start_agent
from support.emitting import numbers
from support.router import Ledger, Received, Router, ipc
from support.waiting import eventually


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def by_producer(received: list[Received]) -> list[list[int]]:
    """What each producer sent, in its order; with the numbers that it said they had."""
    found: dict[str, list[int]] = {}
    for batch in received:
        sent = found.setdefault(batch.header.producer, [])
        assert batch.header.first == len(sent) + 1
        sent.extend(numbers(batch.messages))
    return sorted(found.values())


def test_p7_a_forked_child_sends_what_it_emitted_and_its_parent_the_rest(tmp_path: Path, spool: Path) -> None:
    program = """
for n in range(10): emit(n)
children = []
for base in (100, 200):
    child = os.fork()
    if child == 0:
        for n in range(base, base + 10): emit(n)
        sys.exit(0)
    children.append(child)
for n in range(10, 20): emit(n)
for child in children: assert os.waitpid(child, 0)[1] == 0
"""
    with Router(ipc(tmp_path)) as router:
        status, _, errors = run_agent(program, router.endpoint, spool)
        assert (status, errors) == (0, "")
        assert by_producer(router.received) == [list(range(20)), list(range(100, 110)), list(range(200, 210))]
    assert list(spool.iterdir()) == []


def test_p7_a_child_that_lives_on_does_not_keep_its_parents_spool_owned(tmp_path: Path, spool: Path) -> None:
    program = """
for n in range(10): emit(n)
ready, told = os.pipe()
child = os.fork()
if child == 0:
    os.write(told, b"x")
    sys.stdin.readline()  # lives on, and never emits
    os._exit(0)
os.read(ready, 1)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with start_agent(program, ipc(tmp_path), spool) as agent:
        assert agent.stdout
        child = int(agent.stdout.readline())
        assert agent.wait(60) == -signal.SIGKILL
        os.kill(child, 0)  # it is there
        (folder,) = folders(spool)
        orphan = adopt(folder)
        assert orphan is not None
        orphan.close()
        assert facts(folder).messages == 10
        assert agent.stdin
        agent.stdin.write("end\n")
        agent.stdin.flush()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_p7_children_of_multiprocessing_deliver_what_they_emitted_before_they_end(
    tmp_path: Path, spool: Path, method: str
) -> None:
    program = f"""
def work(base):
    for n in range(base, base + 50): emit(n)
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    emit(0)
    children = [context.Process(target=work, args=(base,)) for base in (100, 200)]
    for child in children: child.start()
    emit(1)
    for child in children:
        child.join()
        assert child.exitcode == 0
"""
    with Router(ipc(tmp_path)) as router:
        status, _, errors = run_agent(program, router.endpoint, spool, folder=tmp_path)
        assert (status, errors) == (0, "")
        assert by_producer(router.received) == [[0, 1], list(range(100, 150)), list(range(200, 250))]
    assert list(spool.iterdir()) == []


def test_p7_a_pool_whose_workers_are_terminated_leaves_the_rest_in_the_spool(tmp_path: Path, spool: Path) -> None:
    program = """
def work(n):
    emit(n)
    return n
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(3) as pool:  # terminates its workers by SIGTERM
        assert sorted(pool.map(work, range(200), chunksize=5)) == list(range(200))
"""
    ledger = Ledger()
    with Router(ipc(tmp_path), lambda received: [ledger.accept(received)]) as router:
        status, _, errors = run_agent(program, router.endpoint, spool, folder=tmp_path)
        assert (status, errors) == (0, "")
        later = "emit(-1)\nassert runlake.flush()\nsys.stdin.readline()"
        with start_agent(later, router.endpoint, spool) as agent:
            eventually(lambda: len(ledger.messages) == 201)
            agent.communicate("end\n", timeout=60)
        assert sorted(numbers(ledger.messages)) == list(range(-1, 200))


def test_p7_the_workers_of_a_prefork_server_deliver_what_they_emitted(tmp_path: Path, spool: Path) -> None:
    (tmp_path / "served.py").write_text(
        "import datetime, os, uuid, runlake\n"
        "def emit(kind):\n"
        "    return runlake.emit(runlake.RunEvent(event_id=uuid.uuid4(), run_id='r', type=kind,\n"
        "        payload={'n': os.getpid()}, ts=datetime.datetime.now(datetime.UTC)))\n"
        "emit('preloaded')\n"
        "def app(environ, start):\n"
        "    emit('request')\n"
        "    start('200 OK', [])\n"
        "    return [str(os.getpid()).encode()]\n"
    )
    environment = {**os.environ, "RUNLAKE_SPOOL": str(spool), "RUNLAKE_INGEST": ipc(tmp_path)}
    command = [
        sys.executable, "-m", "gunicorn", "--preload", "--workers", "3", "--bind", "127.0.0.1:0",
        "--worker-tmp-dir", str(tmp_path), "--max-requests", "20", "served:app",
    ]  # fmt: skip
    ledger = Ledger()
    with (
        Router(ipc(tmp_path), lambda received: [ledger.accept(received)]),
        subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as server,
    ):
        assert server.stderr
        port = next(int(found[1]) for line in server.stderr if (found := re.search(r"Listening at: \S+:(\d+)", line)))
        answered = 0
        pids = set()
        while answered < 60:
            connection = HTTPConnection("127.0.0.1", port, timeout=20)
            try:
                connection.request("GET", "/")
                pids.add(int(connection.getresponse().read()))
                answered += 1
            except ConnectionError:  # its worker was just replaced
                pass
            finally:
                connection.close()
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
        kinds = [message.type for message in ledger.messages if hasattr(message, "type")]
        assert kinds.count("preloaded") == 1  # the master's alone
        assert answered <= kinds.count("request") <= answered + 20
        assert pids <= set(numbers(ledger.messages))
    assert list(spool.iterdir()) == []


def test_p6_threads_tasks_and_signal_handlers_emit_at_once_and_nothing_is_lost(tmp_path: Path, spool: Path) -> None:
    program = """
import itertools
handled = itertools.count()
def handle(*_): emit(1_000_000 + next(handled))  # one may interrupt another
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def work(base):
    for n in range(base, base + 2_000): emit(n)
async def task(base):
    for n in range(base, base + 500):
        emit(n)
        if n % 50 == 0: await asyncio.sleep(0)
async def tasks():
    await asyncio.gather(*(task(base) for base in range(100_000, 100_000 + 8 * 500, 500)))
threads = [threading.Thread(target=work, args=(base,)) for base in range(0, 12_000, 2_000)]
for thread in threads: thread.start()
asyncio.run(tasks())
for thread in threads: thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
sent = next(handled)
assert runlake.flush(30)
stats = runlake.stats()
assert stats.emitted == stats.accepted == stats.spooled == 16_000 + sent, stats
print(sent)
"""
    with Router(ipc(tmp_path)) as router:
        status, said, errors = run_agent(program, router.endpoint, spool)
        assert (status, errors) == (0, "")
        arrived = numbers(router.messages)
        assert sorted(arrived) == sorted(
            [*range(12_000), *range(100_000, 104_000), *range(1_000_000, 1_000_000 + int(said))]
        )
        for base in range(0, 12_000, 2_000):  # each thread's in its order
            assert [n for n in arrived if base <= n < base + 2_000] == list(range(base, base + 2_000))


def test_p7_a_daemon_that_leaves_its_terminal_by_two_forks_delivers_its_own(tmp_path: Path, spool: Path) -> None:
    program = """
emit(0)
if os.fork(): sys.exit(0)
os.setsid()
if os.fork(): os._exit(0)
for n in range(100, 120): emit(n)
"""
    with Router(ipc(tmp_path)) as router:
        status, _, _ = run_agent(program, router.endpoint, spool)
        assert status == 0
        eventually(lambda: len(router.messages) == 21)
        assert by_producer(router.received) == [[0], list(range(100, 120))]
    eventually(lambda: list(spool.iterdir()) == [])


_FORKS_AMID_LOCKS = """
over = threading.Event()
def come_and_go():
    while not over.is_set():
        emitter = runlake.Emitter(endpoint=endpoint, spool=spool, interval_ms=1)
        emitter.emit(runlake.RunEvent(event_id=uuid.uuid4(), run_id="r", type="t", payload={"n": 1},
                     ts=datetime.datetime.now(datetime.UTC)))
        emitter.close(0)
threads = [threading.Thread(target=come_and_go) for _ in range(2)]
for thread in threads: thread.start()
kept = 0
for _ in range(60):
    child = os.fork()
    if not child:
        links = [os.path.join("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
        os._exit(any("/owner" in os.readlink(link) for link in links if os.path.lexists(link)))
    kept += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
over.set()
for thread in threads: thread.join()
print(kept)
"""


def test_p7_a_child_that_is_forked_while_a_spool_is_opened_or_left_holds_no_lock_of_it(
    tmp_path: Path, spool: Path
) -> None:
    with Router(ipc(tmp_path)) as router:
        status, said, errors = run_agent(_FORKS_AMID_LOCKS, router.endpoint, spool)
    assert (status, said) == (0, "0\n"), errors
