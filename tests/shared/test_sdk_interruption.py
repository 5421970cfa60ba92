"""What an agent's object raises while it is looked at stays there; Ctrl-C and signal handlers still reach the agent."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runlake
from runlake.messages import RunEvent, RunUpdated
from support.agents import run_agent
from support.recorder import Recorder
from support.router import Router, ipc


class ForeignPanic(BaseException):
    """As extensions written in Rust raise it."""


def _raise(error: BaseException) -> Callable[[], str]:
    def fail() -> str:
        raise error

    return fail


_WAYS = {
    "a raised SystemExit": _raise(SystemExit(3)),
    "a call of sys.exit": lambda: sys.exit(3),
    "a raised KeyboardInterrupt": _raise(KeyboardInterrupt()),
    "a cancellation": _raise(asyncio.CancelledError()),
    "a closed generator": _raise(GeneratorExit()),
    "a panic": _raise(ForeignPanic()),
}


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


@pytest.mark.parametrize("way", _WAYS)
def test_p6_whatever_an_object_raises_when_it_is_looked_at_the_agent_goes_on(recorder: Recorder, way: str) -> None:
    class Hostile(Exception):  # noqa: N818 (raised, logged and sent)
        def __str__(self) -> str:
            return _WAYS[way]()

        __repr__ = __str__

    hostile: Any = Hostile()
    log = logging.Logger("agent")
    log.addHandler(runlake.RunLogHandler())
    with pytest.raises(Hostile), runlake.track_run("a", "b", emitter=recorder.emitter, website=hostile) as run:
        run.event("value", {"here": [hostile], "there": object()})
        run.event("key", {hostile: 1})
        run.event(hostile, hostile)
        run.update(output_summary=hostile, no_field=hostile)
        run.metrics(value=hostile)
        run.llm_call(hostile, prompt=hostile, usage=hostile)
        run.commit(hostile)
        log.warning("%s", hostile)
        log.warning(hostile)
        raise hostile
    messages = recorder.messages()
    events = {message.type: message.payload for message in messages if isinstance(message, RunEvent)}
    assert "Hostile" in str(events["value"])
    assert "Hostile" in str(events["key"])
    assert {"llm_call", "log"} <= events.keys()
    end = messages[-1]
    assert isinstance(end, RunUpdated)
    assert (end.status, end.error_summary) == ("failure", "Hostile")
    stats = recorder.emitter.stats()
    assert stats.emitted == stats.acknowledged + sum(stats.dropped.values())


_INTERRUPTED = """
def handle(number, frame):
    sys.exit(7)
def handle_by_raise(number, frame):
    raise KeyboardInterrupt("by hand")
class Handler:
    def __call__(self, number, frame):
        sys.exit(7)
class InACall:
    def __repr__(self):
        signal.raise_signal(signal.SIGINT)
        return "not reached"
class InALoop:
    def __repr__(self):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        while True:
            pass
handlers = {
    "default": signal.default_int_handler, "function": handle, "raise": handle_by_raise, "object": Handler(),
}
for name, handler in handlers.items():
    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGALRM, handler)
    for kind in InACall, InALoop:
        try:
            with runlake.track_run("a", "b") as run:
                run.event("step", {"value": kind()})
                print("passed over", name, kind.__name__)
        except (KeyboardInterrupt, SystemExit) as error:
            print(type(error).__name__, error)
signal.signal(signal.SIGINT, signal.default_int_handler)
stats = runlake.stats()
assert runlake.flush(10)
stats = runlake.stats()
print(stats.emitted, stats.acknowledged + sum(stats.dropped.values()))
signal.raise_signal(signal.SIGINT)
"""


def test_p6_an_interruption_that_comes_while_an_object_is_looked_at_reaches_the_agent(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        _, said, errors = run_agent(_INTERRUPTED, router.endpoint, tmp_path / "spool")
    assert said.splitlines() == [
        *["KeyboardInterrupt "] * 2,
        *["SystemExit 7"] * 2,
        *["KeyboardInterrupt by hand"] * 2,
        *["SystemExit 7"] * 2,
        "24 24",  # the start and the end of eight runs, and eight events that were given up and counted
    ]
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


_AT_THE_LIMIT = """
def message():
    return runlake.RunEvent(event_id=uuid.uuid4(), run_id="r", type="t", payload={"n": {1}},
                            ts=datetime.datetime.now(datetime.UTC))
def at(depth, call):
    if depth:
        return at(depth - 1, call)
    call()
def everything(run):
    return [
        lambda: run.event("step", {"a": [1, {"b": {1, 2}}]}), lambda: run.update(items_succeeded=1),
        lambda: run.progress(1, 1), lambda: run.metrics(a=1), lambda: run.llm_call("m", usage={"prompt_tokens": 1}),
        lambda: run.heartbeat(5), lambda: run.commit("abcdef1"), run.traceparent, run.headers, run.__enter__,
        lambda: run.__exit__(None, None, None), lambda: run.delivered(0), lambda: run.run_id, lambda: run.event_id,
        lambda message=message(): runlake.emit(message),
    ]
with runlake.track_run("a", "b") as warm:
    for call in everything(runlake.track_run("c", "d")):
        call()
sys.setrecursionlimit(400)
deepest = 400
while True:
    try:
        at(deepest, lambda: None)
        break
    except RecursionError:
        deepest -= 1
for left in range(2, 40):
    for index in range(len(everything(warm))):
        run = runlake.track_run("c", "d")
        if left % 2:
            run.__enter__()
        call = everything(run)[index]
        try:
            at(deepest - left, call)
        except RecursionError:
            print("call", index, "raised with", left, "frames left")
sys.setrecursionlimit(1000)
for n in range(10): emit(n)
assert runlake.flush(20)
stats = runlake.stats()
print(stats.emitted - stats.acknowledged - sum(stats.dropped.values()), "not in the books")
print(sum(stats.dropped.values()) > 0, stats.dropped.keys() <= {"failed", "not_encodable"})
"""


def test_p6_near_the_recursion_limit_nothing_raises_once_it_was_entered_and_the_books_balance(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        status, said, _ = run_agent(_AT_THE_LIMIT, router.endpoint, tmp_path / "spool")
    assert said.splitlines() == ["0 not in the books", "True True"]
    assert status == 0
