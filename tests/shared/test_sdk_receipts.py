"""Receipts are true: what says that it was delivered was, what was not is counted, and asking costs nothing."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

import runlake
from runlake.emitter import Emitter
from runlake.spoolorphans import facts, folders
from runlake.waiter import Waiter
from support.agents import run_agent
from support.emitting import event, numbers
from support.router import Router, ipc
from support.waiting import eventually


def waiters() -> int:
    gc.collect()
    return sum(isinstance(found, Waiter) for found in gc.get_objects())


def test_a_run_of_which_something_was_dropped_is_never_delivered(tmp_path: Path) -> None:
    emitter = Emitter(ipc(tmp_path), spool="off", queue_messages=2)
    with runlake.track_run("a", "b", emitter=emitter) as whole:
        pass
    with runlake.track_run("a", "b", emitter=emitter) as dropped:
        dropped.event("step")
    with Router(ipc(tmp_path)):
        assert whole.delivered()
        assert not dropped.delivered()
        assert asyncio.run(whole.delivered_async())
        assert not asyncio.run(dropped.delivered_async())
        assert emitter.close()


def test_a_run_of_which_something_was_displaced_is_not_delivered(tmp_path: Path) -> None:
    emitter = Emitter(ipc(tmp_path), spool=tmp_path / "spool", spool_max_mb=1, spool_full="drop-oldest")
    with runlake.track_run("a", "b", emitter=emitter) as early:
        early.event("step")
    for number in range(1_000):
        eventually(lambda: emitter.emit(event(number, text="x" * 10_000)))  # noqa: B023 (the sender makes room)
    with Router(ipc(tmp_path)):
        assert emitter.flush()
        with runlake.track_run("a", "b", emitter=emitter) as late:
            pass
        assert late.delivered()
        assert not early.delivered()
        assert emitter.close()


def test_what_is_given_up_while_it_is_on_its_way_is_not_said_to_be_in_the_spool(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with Router(ipc(tmp_path), lambda received: []):
        emitter = Emitter(ipc(tmp_path), spool=spool, spool_max_mb=1, spool_full="drop-oldest")
        for number in range(2_000):
            eventually(lambda: emitter.emit(event(number, text="x" * 2_000)))  # noqa: B023
        assert emitter.stats().sent > 0
        emitter.close(0)
    stats = emitter.stats()
    assert stats.emitted == stats.acknowledged + stats.queued + sum(stats.dropped.values())
    assert stats.queued == sum(facts(folder).messages for folder in folders(spool))
    assert stats.dropped["undelivered"] > 0


def test_a_forked_child_does_not_vouch_for_what_its_parent_said(tmp_path: Path) -> None:
    program = """
with runlake.track_run("a", "b") as run:
    child = os.fork()
    if child == 0:
        os._exit(10 + run.delivered(0))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    with Router(ipc(tmp_path)) as router:
        _, said, errors = run_agent(program, router.endpoint, tmp_path / "spool")
    assert (said, errors) == ("10\n", "")


def test_progress_that_was_held_back_goes_out_before_a_receipt(tmp_path: Path) -> None:
    with Router(ipc(tmp_path)) as router:
        emitter = Emitter(router.endpoint, spool=tmp_path / "spool")
        with runlake.track_run("a", "b", emitter=emitter) as run:
            for done in range(10):
                run.progress(done, 10)
            assert run.delivered()
            said = [message.items_succeeded for message in router.messages if isinstance(message, runlake.RunUpdated)]
            assert said[-1] == 9
        assert emitter.close()


def test_waiting_in_vain_leaves_nothing_behind(tmp_path: Path) -> None:
    emitter = Emitter(ipc(tmp_path), spool=tmp_path / "spool")
    emitter.emit(event(1))

    async def cancelled() -> None:
        task = asyncio.create_task(emitter.delivered_async(emitter.last_number(), 60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for _ in range(200):
        assert not emitter.delivered(emitter.last_number(), 0)
    asyncio.run(cancelled())
    eventually(lambda: waiters() == 0)
    emitter.close(0)


def test_what_came_after_the_end_is_not_said_to_be_delivered(tmp_path: Path) -> None:
    program = """
emit(1)
assert runlake.flush()
def late():
    emit(2)
    print(runlake.flush(0), flush=True)
    os._exit(0)
atexit._clear()
from runlake import _default
_default.made.close_at_exit()
assert runlake.flush(0)
late()
"""
    with Router(ipc(tmp_path)) as router:
        _, said, errors = run_agent(program, router.endpoint, tmp_path / "spool")
        assert numbers(router.messages) == [1]
    assert (said, errors) == ("False\n", "")
    assert sum(facts(folder).messages for folder in folders(tmp_path / "spool")) == 1
