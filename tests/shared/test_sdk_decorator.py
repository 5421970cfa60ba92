"""`track_run` as a decorator, and as an asynchronous context manager."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import runlake
from runlake.messages import Message, RunStarted, RunUpdated
from support.recorder import Recorder


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path)
    yield recorder
    recorder.messages()


def _ends(messages: list[Message]) -> list[str | None]:
    return [message.status for message in messages if isinstance(message, RunUpdated)]


def _current() -> runlake.Run:
    run = runlake.current_run()
    assert run is not None
    return run


def test_each_call_of_a_function_is_a_run_of_its_own(recorder: Recorder) -> None:
    @runlake.track_run("adder", "add", emitter=recorder.emitter, website="example.org")
    def add(a: int, b: int = 1) -> int:
        """Adds."""
        _current().update(items_succeeded=a + b)
        return a + b

    assert (add(1), add(2, b=3)) == (2, 5)
    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    assert list(inspect.signature(add).parameters) == ["a", "b"]
    starts = [message for message in recorder.messages() if isinstance(message, RunStarted)]
    assert len({start.event_id for start in starts}) == len({start.run_id for start in starts}) == 2
    assert {start.website for start in starts} == {"example.org"}
    assert _ends(recorder.messages()) == [None, "success", None, "success"]


def test_a_functions_exception_passes_through_unchanged_and_is_recorded(recorder: Recorder) -> None:
    error = ValueError("no")

    @runlake.track_run("a", "b", emitter=recorder.emitter)
    def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="no") as raised:
        fail()
    assert raised.value is error
    assert recorder.state("a")["error_summary"] == "ValueError: no"


async def test_a_coroutine_function_stays_one_and_its_calls_are_runs_also_when_cancelled(recorder: Recorder) -> None:
    inside = asyncio.Event()

    @runlake.track_run("a", "b", emitter=recorder.emitter)
    async def work(wait: bool) -> str:
        inside.set()
        if wait:
            await asyncio.Event().wait()
        return _current().run_id

    assert inspect.iscoroutinefunction(work)
    first = await work(False)
    inside.clear()
    task = asyncio.create_task(work(True))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    starts = [message for message in recorder.messages() if isinstance(message, RunStarted)]
    assert starts[0].run_id == first
    assert _ends(recorder.messages()) == ["success", "cancelled"]


def test_a_generator_is_a_run_from_its_first_item_to_its_end_and_keeps_to_itself(recorder: Recorder) -> None:
    @runlake.track_run("counter", "count", emitter=recorder.emitter)
    def count(limit: int) -> Generator[int, str, str]:
        said = []
        for number in range(limit):
            assert _current() is runs.setdefault("run", _current())
            try:
                said.append((yield number))
            except KeyError:
                said.append("thrown")
        return ",".join(map(str, said))

    runs: dict[str, runlake.Run] = {}
    generator = count(3)
    assert not recorder.emitter.stats().emitted  # nothing before the first item
    with runlake.track_run("outer", "o", emitter=recorder.emitter) as outer:
        assert next(generator) == 0
        assert runlake.current_run() is outer
        assert generator.send("a") == 1
        assert generator.throw(KeyError("k")) == 2
        assert runlake.current_run() is outer
        with pytest.raises(StopIteration) as end:
            generator.send("c")
        assert end.value.value == "a,thrown,c"
        assert runlake.current_run() is outer
    assert inspect.isgeneratorfunction(count)
    assert recorder.state("counter")["status"] == "success"
    assert recorder.state("counter")["parent_run_id"] == outer.run_id


def test_a_generator_that_is_closed_early_is_cancelled_and_one_that_fails_a_failure(recorder: Recorder) -> None:
    cleaned = []

    def items(fail: bool) -> Generator[int, None, None]:
        try:
            yield 1
            if fail:
                raise ValueError("no")
            yield 2
        finally:
            cleaned.append(runlake.current_run() is not None)

    for name, fail in (("closed", False), ("failed", True)):
        generator = runlake.track_run(name, "j", emitter=recorder.emitter)(items)(fail)
        assert next(generator) == 1
        if fail:
            with pytest.raises(ValueError, match="no"):
                next(generator)
        else:
            generator.close()
    assert cleaned == [True, True]
    assert recorder.state("closed")["status"] == "cancelled"
    assert recorder.state("failed")["status"] == "failure"


async def test_an_async_generator_is_a_run_too(recorder: Recorder) -> None:
    @runlake.track_run("all", "j", emitter=recorder.emitter)
    async def items() -> AsyncGenerator[int, str]:
        try:
            got = yield 1
            assert got == "sent"
            assert runlake.current_run() is not None
        except KeyError:
            yield 10
            raise
        yield 2

    assert inspect.isasyncgenfunction(items)
    whole = items()
    assert [await anext(whole), await whole.asend("sent"), [item async for item in whole]] == [1, 2, []]
    assert runlake.current_run() is None
    closed = runlake.track_run("closed", "j", emitter=recorder.emitter)(items.__wrapped__)()  # type: ignore[attr-defined]
    assert await anext(closed) == 1
    await closed.aclose()
    failed = runlake.track_run("failed", "j", emitter=recorder.emitter)(items.__wrapped__)()  # type: ignore[attr-defined]
    assert await anext(failed) == 1
    assert await failed.athrow(KeyError("k")) == 10
    with pytest.raises(KeyError):
        await anext(failed)
    states = {name: recorder.state(name)["status"] for name in ("all", "closed", "failed")}
    assert states == {"all": "success", "closed": "cancelled", "failed": "failure"}


async def test_async_with_records_as_with_does(recorder: Recorder) -> None:
    async with runlake.track_run("outer", "j", emitter=recorder.emitter) as outer:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), runlake.track_run("inner", "j", emitter=recorder.emitter):
                await asyncio.Event().wait()
    assert recorder.state("outer")["status"] == "success"
    assert recorder.state("inner")["parent_run_id"] == outer.run_id
    assert recorder.state("inner")["status"] == "cancelled"


def test_methods_partials_and_what_is_no_function_can_be_decorated(recorder: Recorder) -> None:
    told = runlake.track_run("a", "b", emitter=recorder.emitter, event_id="0190a1b2-0000-7000-8000-000000000001")

    class Agent:
        @told
        def method(self) -> str:
            return "method"

        @told
        @staticmethod
        def static() -> str:
            return "static"

        @classmethod
        @told
        def of_class(cls) -> str:
            return cls.__name__

    assert [Agent().method(), Agent.static(), Agent.of_class()] == ["method", "static", "Agent"]
    assert told(functools.partial(int, "7"))() == 7
    thing: Any = 5
    assert told(thing) == 5
    starts = [message for message in recorder.messages() if isinstance(message, RunStarted)]
    assert len({start.event_id for start in starts}) == 4  # an event_id for all calls would make them one run


def test_a_decorated_function_can_call_itself_and_run_in_many_threads(recorder: Recorder) -> None:
    together = threading.Barrier(4)

    @runlake.track_run("depth", "j", emitter=recorder.emitter)
    def descend(levels: int) -> None:
        if levels:
            descend(levels - 1)
        else:
            together.wait(20)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(descend, [2] * 4))
    starts = [message for message in recorder.messages() if isinstance(message, RunStarted)]
    names = {start.run_id for start in starts}
    assert len(names) == 12
    assert sum(start.parent_run_id is None for start in starts) == 4
    assert all(start.parent_run_id in names for start in starts if start.parent_run_id)
    assert _ends(recorder.messages()) == ["success"] * 12
