"""The current run in threads, executors, other processes and on other hosts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import runlake
from runlake import traceparent
from runlake.messages import RunEvent, RunStarted, RunUpdated
from support.api import Api
from support.processes import Site
from support.recorder import Recorder
from support.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
CALLER = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path)
    yield recorder
    recorder.messages()


# Threads


def test_wrap_and_the_executor_carry_the_run_that_was_current_when_the_work_was_given(recorder: Recorder) -> None:
    def work(name: str) -> str:
        with runlake.track_run(name, "j", emitter=recorder.emitter):
            return name

    with runlake.CarryingExecutor(ThreadPoolExecutor(2)) as pool:
        with runlake.track_run("outer", "j", emitter=recorder.emitter) as outer:
            thread = threading.Thread(target=runlake.wrap(work), args=("thread",))
            thread.start()
            thread.join()
            submitted = pool.submit(work, "submitted")
            mapped = pool.map(work, ["first", "second"])
            with runlake.track_run("inner", "j", emitter=recorder.emitter) as inner:
                later = pool.submit(work, "later")
        assert (submitted.result(), list(mapped), later.result()) == ("submitted", ["first", "second"], "later")
        assert pool.submit(runlake.current_run).result() is None  # the threads do not keep a run
    starts = recorder.starts()
    assert {starts[name].parent_run_id for name in ("thread", "submitted", "first", "second")} == {outer.run_id}
    assert starts["later"].parent_run_id == inner.run_id


async def test_tasks_and_to_thread_carry_the_run_by_themselves_and_wrap_serves_run_in_executor(
    recorder: Recorder,
) -> None:
    def work(name: str) -> None:
        with runlake.track_run(name, "j", emitter=recorder.emitter):
            pass

    async with runlake.track_run("outer", "j", emitter=recorder.emitter) as outer:
        await asyncio.to_thread(work, "to_thread")
        await asyncio.get_running_loop().run_in_executor(None, runlake.wrap(work), "executor")
        await asyncio.create_task(asyncio.to_thread(work, "task"))
    starts = recorder.starts()
    assert {starts[name].parent_run_id for name in ("to_thread", "executor", "task")} == {outer.run_id}


# Trace context


def test_a_run_says_who_it_is_in_trace_context_and_joins_the_trace_that_its_root_begins(recorder: Recorder) -> None:
    with runlake.track_run("root", "j", emitter=recorder.emitter) as root:
        with runlake.track_run("child", "j", emitter=recorder.emitter, run_id="a run/id,=é") as child:
            said = child.traceparent(), child.tracestate()
            child.event("step")
            assert child.headers() == {"traceparent": said[0], "tracestate": said[1]}
            assert child.environ() == {"TRACEPARENT": said[0], "TRACESTATE": said[1]}
        assert root.traceparent().split("-")[1] == said[0].split("-")[1]
    joined = traceparent.read(*said)
    assert joined is not None
    assert (joined.run_id, joined.trace_id, joined.span_id) == (
        "a run/id,=é",
        root.event_id.hex,
        child.event_id.hex[16:],
    )
    state = recorder.state("child")
    assert (state["trace_id"], state["span_id"]) == (joined.trace_id, joined.span_id)
    (event,) = [message for message in recorder.messages() if isinstance(message, RunEvent)]
    assert (event.trace_id, event.span_id) == (joined.trace_id, joined.span_id)


def test_a_run_joins_the_run_that_called_it_and_passes_on_what_others_said(recorder: Recorder) -> None:
    with (
        runlake.track_run("other", "j", emitter=recorder.emitter),
        runlake.track_run(
            "joined", "j", emitter=recorder.emitter, traceparent=CALLER, tracestate="vendor=1,runlake=the%20caller"
        ) as run,
    ):
        assert run.traceparent().startswith(f"00-{TRACE}-")
        assert run.tracestate() == f"runlake={quote(run.run_id)},vendor=1"
        with runlake.track_run("below", "j", emitter=recorder.emitter) as below:
            assert below.tracestate().endswith(",vendor=1")
    starts = recorder.starts()
    assert (starts["joined"].parent_run_id, starts["joined"].trace_id) == ("the caller", TRACE)
    assert (starts["below"].parent_run_id, starts["below"].trace_id) == (run.run_id, TRACE)


def test_a_caller_that_is_no_run_gives_its_trace_and_its_span_is_kept(recorder: Recorder) -> None:
    with runlake.track_run("a", "j", emitter=recorder.emitter, traceparent=CALLER, context_json={"k": 1}):
        pass
    start = recorder.starts()["a"]
    assert (start.parent_run_id, start.trace_id) == (None, TRACE)
    assert start.context_json == {"parent_span_id": SPAN, "k": 1}


def test_a_trace_id_of_another_form_is_kept_and_the_header_is_still_one(recorder: Recorder) -> None:
    with runlake.track_run("a", "j", emitter=recorder.emitter, trace_id="t1") as run:
        assert traceparent.read(run.traceparent()) is not None
    assert recorder.starts()["a"].trace_id == "t1"


@pytest.mark.parametrize(
    "header",
    [None, "", "garbage", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
     f"00-{TRACE.upper()}-{SPAN}-01", f"{CALLER}-more", 17],
)  # fmt: skip
def test_what_is_no_traceparent_is_passed_over(header: object) -> None:
    assert traceparent.read(header) is None


def test_a_later_version_with_more_in_it_is_read() -> None:
    joined = traceparent.read(f"01-{TRACE}-{SPAN}-00-more", "a=1, runlake=x ,b=2")
    assert joined == traceparent.Joined(TRACE, SPAN, "00", "x", "a=1,b=2")


@pytest.mark.parametrize(
    "member",
    ["x=\r\nevil: 1", "x=\x00", "x=\udc80", "vendor=é", "x", "=x", "X=1", "x=", f"x={'y' * 257}", "x=a=b", "runlake="],
)
def test_nothing_gets_from_a_hostile_tracestate_into_a_header(member: str) -> None:
    joined = traceparent.read(CALLER, f"a=1,{member},b=2")
    assert joined is not None
    assert (joined.run_id, joined.others) == (None, "a=1,b=2")


def test_the_first_of_many_parents_counts_and_what_is_longer_than_any_tracestate_is_passed_over() -> None:
    joined = traceparent.read(CALLER, "runlake=one,a=1,runlake=two")
    assert joined == traceparent.Joined(TRACE, SPAN, "01", "one", "a=1")
    flood = traceparent.read(CALLER, ",".join(f"runlake={number}" for number in range(100_000)))
    assert flood == traceparent.Joined(TRACE, SPAN, "01", None, "")


@given(st.text(min_size=1, max_size=60).filter(lambda text: text.isprintable()))
def test_any_run_id_that_fits_comes_back_out_of_a_tracestate(run_id: str) -> None:
    state = traceparent.state(run_id, "vendor=1")
    joined = traceparent.read(CALLER, state)
    assert joined is not None
    fits = len(quote(run_id, safe="")) <= 256
    assert joined.run_id == (run_id if fits else None)
    assert state.isascii()


def test_a_tracestate_does_not_grow_beyond_the_standard() -> None:
    others = ",".join(f"v{number}={'x' * 20}" for number in range(50))
    state = traceparent.state("r", others)
    assert len(state) <= 512
    assert state.split(",")[0] == "runlake=r"


# Real processes, a real worker

_CHILD = """
import runlake, sys
with runlake.track_run(sys.argv[1], "child") as run:
    if len(sys.argv) > 2:
        import os, subprocess
        subprocess.run([sys.executable, "-c", open(sys.argv[2]).read(), "grandchild"],
                       env={**os.environ, **run.environ()}, check=True)
assert runlake.flush(30), runlake.stats()
"""


_REMOTE = """
import runlake, sys
with runlake.track_run("remote", "child", traceparent=sys.argv[1], tracestate=sys.argv[2]):
    pass
assert runlake.flush(30), runlake.stats()
"""


def test_the_runs_of_child_processes_are_in_the_tree_that_the_lake_tells(tmp_path: Path) -> None:
    site = Site(tmp_path)
    script = tmp_path / "child.py"
    script.write_text(_CHILD)
    environment = {**os.environ, "RUNLAKE_INGEST": site.ingest_endpoint, "RUNLAKE_SPOOL": "off"}
    with site.ingest():
        emitter = runlake.Emitter(endpoint=site.ingest_endpoint)
        with runlake.track_run("parent", "p", emitter=emitter, run_id="the parent") as parent:
            subprocess.run(
                [sys.executable, str(script), "child", str(script)],
                env={**environment, **parent.environ()}, check=True, timeout=60,
            )  # fmt: skip
            subprocess.run(
                [sys.executable, "-c", _REMOTE, *parent.headers().values()], env=environment, check=True, timeout=60
            )
        assert emitter.flush(30)
        emitter.close()
        query, url = site.query()
        with query:
            api = Api(url)

            def found() -> dict[str, dict[str, str]]:
                return {run["agent_name"]: run for run in api.ok("/api/v1/runs")["runs"]}

            eventually(lambda: len(found()) == 4)
            runs = found()
            api.close()
    assert runs["child"]["parent_run_id"] == runs["remote"]["parent_run_id"] == "the parent"
    assert runs["grandchild"]["parent_run_id"] == runs["child"]["run_id"]
    assert {run["trace_id"] for run in runs.values()} == {parent.event_id.hex}
    assert {run["status"] for run in runs.values()} == {"success"}


def test_an_update_that_joins_a_trace_is_sent_once(recorder: Recorder) -> None:
    with runlake.track_run("a", "j", emitter=recorder.emitter) as run:
        assert run.traceparent() == run.traceparent()
    updates = [message for message in recorder.messages() if isinstance(message, RunUpdated)]
    assert [message.trace_id for message in updates] == [run.event_id.hex, None]
    assert isinstance(recorder.messages()[0], RunStarted)
