"""However an agent ends: what it emitted is delivered, or in the spool, in time (P6, P7)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zmq

from runlake.spoolorphans import facts, folders
from support.agents import PRELUDE, run_agent, start_agent
from support.emitting import numbers
from support.router import Ledger, Router, ipc
from support.waiting import eventually

COUNT = 300
EMIT = f"for n in range({COUNT}): emit(n)\n"
ENDINGS = {
    "return": ("pass", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "exception": ("raise ValueError('on purpose')", 1),
    "SIGINT": ("os.kill(os.getpid(), signal.SIGINT); threading.Event().wait(30)", -signal.SIGINT),
    "SIGTERM with a handler": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); os.kill(os.getpid(), signal.SIGTERM);"
        " threading.Event().wait(30)",
        0,
    ),
    "SIGTERM without a handler": ("os.kill(os.getpid(), signal.SIGTERM); threading.Event().wait(30)", -signal.SIGTERM),
    "os._exit": ("os._exit(4)", 4),
    "kill -9": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "abort": ("os.abort()", -signal.SIGABRT),
}
WITHOUT_PYTHON = ("SIGTERM without a handler", "os._exit", "kill -9", "abort")


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def waiting(spool: Path) -> int:
    return sum(facts(folder).messages for folder in folders(spool))


@pytest.mark.parametrize("ending", ENDINGS)
def test_p7_without_a_worker_everything_is_in_the_spool_however_an_agent_ends(
    tmp_path: Path, spool: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXIT_S", "0")
    last, expected = ENDINGS[ending]
    status, _, _ = run_agent(EMIT + last, ipc(tmp_path), spool)
    assert status == expected
    assert waiting(spool) == COUNT
    (folder,) = folders(spool)
    assert not facts(folder).owned


@pytest.mark.parametrize("ending", [name for name in ENDINGS if name not in WITHOUT_PYTHON])
def test_p7_with_a_worker_everything_is_delivered_when_an_agent_ends(tmp_path: Path, spool: Path, ending: str) -> None:
    last, expected = ENDINGS[ending]
    with Router(ipc(tmp_path)) as router:
        status, _, errors = run_agent(EMIT + last, router.endpoint, spool)
        assert status == expected
        assert "RunLake" not in errors
        assert numbers(router.messages) == list(range(COUNT))
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("exit_s", [0.0, 0.5])
def test_p6_a_worker_that_never_answers_holds_the_end_up_no_longer_than_stated(
    tmp_path: Path, spool: Path, exit_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXIT_S", str(exit_s))
    program = (
        EMIT + "import time\natexit.register(lambda: print(time.monotonic(), flush=True))\nprint(time.monotonic())"
    )
    with Router(ipc(tmp_path), lambda received: []) as router, start_agent(program, router.endpoint, spool) as agent:
        said, _ = agent.communicate(timeout=60)
        ended = time.monotonic()
        assert ended - float(said.split()[-1]) < exit_s + 15  # far below what a wait without a bound would take
        assert agent.returncode == 0
    assert waiting(spool) == COUNT


def test_p7_what_is_emitted_after_the_emitter_ended_is_in_the_spool(tmp_path: Path, spool: Path) -> None:
    program = "atexit.register(emit, 2)\nemit(0)\nrunlake.stats()\natexit.register(emit, 1)\n"  # last in, first out
    early = "import atexit, sys\natexit.register(lambda: sys.modules['__main__'].emit(3))\n"
    with Router(ipc(tmp_path)) as router:
        command = [sys.executable, "-c", early + PRELUDE + program, router.endpoint, str(spool)]
        done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        arrived = numbers(router.messages)
        assert arrived == [0, 1, 2]
    assert waiting(spool) == 1  # the one of a handler that was registered before RunLake's


def test_p6_objects_may_emit_when_they_are_collected_also_while_the_interpreter_ends(
    tmp_path: Path, spool: Path
) -> None:
    program = """
class Talker:
    def __init__(self, n): self.n = n
    def __del__(self): emit(self.n)
for n in range(100): Talker(n)
cycle = Talker(100); cycle.itself = cycle
kept = Talker(101)
"""
    with Router(ipc(tmp_path)) as router:
        status, _, errors = run_agent(program, router.endpoint, spool)
        assert (status, errors) == (0, "")
        delivered = set(numbers(router.messages))
    assert set(range(100)) <= delivered <= set(range(102))


def test_p6_threads_that_go_on_emitting_do_not_hold_up_the_end_and_lose_nothing(tmp_path: Path, spool: Path) -> None:
    progress = tmp_path / "progress"
    progress.write_bytes(bytes(8))
    program = """
import mmap
progress = mmap.mmap(os.open(arguments[0], os.O_RDWR), 8)
def work():
    n = 0
    while True:
        emit(n)
        n += 1
        progress[:] = n.to_bytes(8, "little")
        threading.Event().wait(0.0005)
threading.Thread(target=work, daemon=True).start()
threading.Event().wait(0.2)
"""
    ledger = Ledger()
    with Router(ipc(tmp_path), lambda received: [ledger.accept(received)]) as router:
        status, _, _ = run_agent(program, router.endpoint, spool, progress)
        assert status in (0, -signal.SIGABRT)
        emitted = int.from_bytes(progress.read_bytes(), "little")
        again, _, _ = run_agent("emit(-1)\nassert runlake.flush()\nimport time\n" + SETTLE, router.endpoint, spool)
        assert again == 0
        arrived = sorted(n for n in numbers(ledger.messages) if n >= 0)
        assert arrived == list(range(len(arrived)))
        assert emitted <= len(arrived) <= emitted + 1


SETTLE = """
end = time.monotonic() + 20
while sum(any(name.endswith(".seg") for name in names) for _, _, names in os.walk(spool)) > 1:
    assert time.monotonic() < end
    threading.Event().wait(0.01)
"""


def test_p6_a_name_server_that_does_not_answer_holds_up_neither_emit_nor_the_end(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = _hanging_resolver(tmp_path)
    keys = tmp_path / "agent.key_secret"  # beyond loopback nobody connects without
    public, secret = (key.decode() for key in zmq.curve_keypair())
    keys.write_text(f'curve\n    public-key = "{public}"\n    secret-key = "{secret}"\n')
    keys.chmod(0o600)
    monkeypatch.setenv("RUNLAKE_SERVER_KEY", public)
    monkeypatch.setenv("RUNLAKE_CLIENT_KEY", str(keys))
    program = """
import time
begun = time.monotonic()
for n in range(100): emit(n)
assert not runlake.flush(0.3)
assert time.monotonic() - begun < 20
print("emitted", flush=True)
"""
    os.environ["LD_PRELOAD"] = str(library)
    os.environ["EXIT_S"] = "0.2"
    try:
        agent = start_agent(program, "tcp://worker.example:8766", spool)
    finally:
        del os.environ["LD_PRELOAD"], os.environ["EXIT_S"]
    with agent:
        said, errors = agent.communicate(timeout=60)
        assert (agent.returncode, said, errors) == (0, "emitted\n", "")
    assert waiting(spool) == 100
    assert (tmp_path / "asked").exists()


def _hanging_resolver(folder: Path) -> Path:
    """A library whose getaddrinfo never answers, as behind a firewall that swallows what is asked."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build the hanging resolver with")
    source, library = folder / "resolver.c", folder / "resolver.so"
    source.write_text(
        "#include <fcntl.h>\n#include <unistd.h>\n"
        f'int getaddrinfo() {{ close(open("{folder}/asked", O_CREAT | O_WRONLY, 0600)); for (;;) pause(); }}\n'
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", library, source], check=True, timeout=60)
    return library


def test_a_worker_that_is_started_again_between_gets_everything_once(tmp_path: Path, spool: Path) -> None:
    ledger = Ledger()
    program = EMIT + "print('up', flush=True)\nsys.stdin.readline()\n"
    with start_agent(program, ipc(tmp_path), spool) as agent:
        assert agent.stdout
        assert agent.stdout.readline() == "up\n"
        with Router(ipc(tmp_path), lambda received: [ledger.accept(received)]):
            eventually(lambda: len(ledger.messages) == COUNT)
        assert agent.stdin
        agent.stdin.write("end\n")
        agent.stdin.flush()
        with Router(ipc(tmp_path), lambda received: [ledger.accept(received)]):
            assert agent.wait(60) == 0
        assert sorted(numbers(ledger.messages)) == list(range(COUNT))
