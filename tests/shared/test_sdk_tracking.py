"""`track_run`: what a block records, however it ends and whatever it is given."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runlake
from runlake import wire
from runlake.emitter import Emitter
from runlake.messages import CommitAssociated, Message, RunEvent, RunStarted, RunUpdated
from runlake.validation import validate
from support.recorder import Recorder
from support.router import Router, ipc


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path)
    yield recorder
    recorder.messages()


def _started_and_ended(messages: list[Message]) -> tuple[RunStarted, RunUpdated]:
    start, end = messages[0], messages[-1]
    assert isinstance(start, RunStarted)
    assert isinstance(end, RunUpdated)
    assert end.run_event_id == start.event_id
    return start, end


def test_a_run_that_ends_well_is_recorded_from_start_to_end(recorder: Recorder) -> None:
    before = datetime.now(UTC)
    with runlake.track_run("crawler", "crawl", emitter=recorder.emitter, website="example.org") as run:
        run.event("page", {"url": "/"})
        run.update(items_succeeded=1)
        run.commit("abcdef1", source="llm", author="A. Author")
    messages = recorder.messages()
    start, end = _started_and_ended(messages)
    assert (start.agent_name, start.job_type, start.website, start.status) == (
        "crawler",
        "crawl",
        "example.org",
        "running",
    )
    assert start.run_id == run.run_id == str(UUID(run.run_id))
    assert UUID(run.run_id).version == run.event_id.version == 7
    assert start.event_id == run.event_id
    assert start.host
    assert before <= start.start_time <= datetime.now(UTC)
    _, event, update, commit, _ = messages
    assert isinstance(event, RunEvent)
    assert (event.run_id, event.run_event_id, event.type, event.payload) == (
        run.run_id,
        run.event_id,
        "page",
        {"url": "/"},
    )
    assert isinstance(update, RunUpdated)
    assert (update.run_event_id, update.items_succeeded, update.status) == (run.event_id, 1, None)
    assert isinstance(commit, CommitAssociated)
    assert (commit.commit_hash, commit.commit_source, commit.commit_author) == ("abcdef1", "llm", "A. Author")
    assert end.status == "success"
    assert end.end_time is not None
    assert end.end_time >= start.start_time
    assert end.duration_ms is not None
    assert end.error_summary is None
    assert len({message.event_id for message in messages}) == 5


def test_a_duration_is_measured_in_milliseconds(recorder: Recorder) -> None:
    began = time.monotonic()
    with runlake.track_run("a", "b", emitter=recorder.emitter):
        while time.monotonic() < began + 0.05:
            pass
    _, end = _started_and_ended(recorder.messages())
    assert end.duration_ms is not None
    assert 45 <= end.duration_ms <= (time.monotonic() - began) * 1000 + 1


@pytest.mark.parametrize(
    ("error", "status", "summary"),
    [
        (ValueError("no such page"), "failure", "ValueError: no such page"),
        (TimeoutError("too slow"), "timeout", "TimeoutError: too slow"),
        (KeyboardInterrupt(), "cancelled", "KeyboardInterrupt"),
        (asyncio.CancelledError(), "cancelled", "CancelledError"),
        (GeneratorExit(), "cancelled", "GeneratorExit"),
        (SystemExit(0), "success", None),
        (SystemExit(), "success", None),
        (SystemExit(2), "failure", "SystemExit: 2"),
        (SystemExit("bad"), "failure", "SystemExit: bad"),
    ],
)
def test_how_a_block_ends_decides_the_status_and_the_exception_goes_on(
    recorder: Recorder, error: BaseException, status: str, summary: str | None
) -> None:
    with pytest.raises(type(error)) as raised, runlake.track_run("a", "b", emitter=recorder.emitter):
        raise error
    assert raised.value is error
    _, end = _started_and_ended(recorder.messages())
    assert (end.status, end.error_summary) == (status, summary)
    if status in ("failure", "timeout"):
        assert end.error_details is not None
        assert "Traceback" in end.error_details
        assert "test_sdk_tracking" in end.error_details


def test_a_status_set_in_the_block_stands_when_it_ends_normally(recorder: Recorder) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter) as run:
        run.update(status="partial")
    assert _started_and_ended(recorder.messages())[1].status == "partial"


def test_an_alias_of_a_status_is_understood(recorder: Recorder) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter) as run:
        run.update(status="failed")
    messages = recorder.messages()
    assert [message.status for message in messages if isinstance(message, RunUpdated)] == ["failure", "failure"]


def test_an_exception_outranks_a_status_set_before_and_keeps_the_agents_own_words(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="really"), runlake.track_run("a", "b", emitter=recorder.emitter) as run:
        run.update(status="success", error_summary="my own words")
        raise ValueError("really")
    messages = recorder.messages()
    _, end = _started_and_ended(messages)
    assert end.status == "failure"
    assert end.error_summary is None  # so that what the agent said before stays
    assert end.error_details is not None


def test_times_that_the_agent_set_itself_are_left_alone(recorder: Recorder) -> None:
    start_time = datetime(2026, 1, 1, tzinfo=UTC)
    with runlake.track_run("a", "b", emitter=recorder.emitter, start_time=start_time) as run:
        run.update(end_time=start_time + timedelta(seconds=5), duration_ms=5_000)
    start, end = _started_and_ended(recorder.messages())
    assert start.start_time == start_time
    assert (end.end_time, end.duration_ms) == (None, None)


def test_long_tracebacks_and_messages_are_cut_to_what_the_lake_takes(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="x"), runlake.track_run("a", "b", emitter=recorder.emitter):
        raise ValueError("x" * 200_000)
    _, end = _started_and_ended(recorder.messages())
    assert end.error_summary is not None
    assert end.error_summary.endswith("…")
    assert end.error_details is not None
    assert len(end.error_details) <= 65_536
    assert end.error_details.startswith("Traceback")


# Nesting


def test_runs_inside_a_run_become_its_children(recorder: Recorder) -> None:
    with runlake.track_run("outer", "j", emitter=recorder.emitter, trace_id="t1") as outer:
        assert runlake.current_run() is outer
        with runlake.track_run("inner", "j", emitter=recorder.emitter) as inner:
            inner.event("step")
            with runlake.track_run("given", "j", emitter=recorder.emitter, parent_run_id="p", trace_id="t2"):
                pass
        with runlake.track_run("second", "j", emitter=recorder.emitter):
            pass
    assert runlake.current_run() is None
    with runlake.track_run("alone", "j", emitter=recorder.emitter):
        pass
    messages = recorder.messages()
    starts = {message.agent_name: message for message in messages if isinstance(message, RunStarted)}
    parents = {name: start.parent_run_id for name, start in starts.items()}
    assert parents == {"outer": None, "inner": outer.run_id, "given": "p", "second": outer.run_id, "alone": None}
    assert {name: start.trace_id for name, start in starts.items()} == {
        "outer": "t1",
        "inner": "t1",
        "given": "t2",
        "second": "t1",
        "alone": None,
    }
    assert [message.trace_id for message in messages if isinstance(message, RunEvent)] == ["t1"]


def test_threads_begin_without_a_run_unless_they_are_given_the_context(recorder: Recorder) -> None:
    def work(name: str) -> None:
        with runlake.track_run(name, "j", emitter=recorder.emitter):
            pass

    with runlake.track_run("outer", "j", emitter=recorder.emitter) as outer:
        thread = threading.Thread(target=work, args=("bare",))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(contextvars.copy_context().run, work, "given").result()
    starts = recorder.starts()
    assert starts["bare"].parent_run_id is None
    assert starts["given"].parent_run_id == outer.run_id


async def test_concurrent_tasks_find_their_own_parents(recorder: Recorder) -> None:
    both = asyncio.Barrier(2)

    async def child(name: str) -> None:
        with runlake.track_run(name, "j", emitter=recorder.emitter):
            await both.wait()

    async def parent(name: str) -> str:
        with runlake.track_run(name, "j", emitter=recorder.emitter) as run:
            await asyncio.create_task(child(f"child of {name}"))
            return run.run_id

    ids = await asyncio.gather(parent("a"), parent("b"))
    starts = recorder.starts()
    assert [starts["child of a"].parent_run_id, starts["child of b"].parent_run_id] == list(ids)


async def test_a_cancelled_task_leaves_a_cancelled_run(recorder: Recorder) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        with runlake.track_run("a", "b", emitter=recorder.emitter):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _started_and_ended(recorder.messages())[1].status == "cancelled"


def test_a_block_that_is_left_in_another_context_does_not_raise(recorder: Recorder) -> None:
    def generate() -> Generator[None, None, None]:
        with runlake.track_run("a", "b", emitter=recorder.emitter):
            yield

    generator = generate()
    contextvars.copy_context().run(next, generator)
    generator.close()
    assert runlake.current_run() is None
    assert _started_and_ended(recorder.messages())[1].status == "cancelled"


# What agents get wrong


def test_fields_that_no_run_has_are_kept_in_the_context(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    fields: dict[str, Any] = {"colour": "red", "context_json": {"given": 1}}
    with runlake.track_run("a", "b", emitter=recorder.emitter, **fields) as run:
        run.update(shape="round")
    messages = recorder.messages()
    start, update = messages[0], messages[1]
    assert isinstance(start, RunStarted)
    assert start.context_json == {"given": 1, "colour": "red"}
    assert isinstance(update, RunUpdated)
    assert update.context_json == {"given": 1, "colour": "red", "shape": "round"}
    assert any("colour" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("field", "value", "arrives"),
    [
        ("website", "x" * 2_000, "x" * 1_023 + "…"),
        ("input_summary", "x" * 70_000, "x" * 65_535 + "…"),
        ("item_name", 17, "17"),
        ("source_ref", Path("/a/b"), "/a/b"),
        ("items_failed", 3.0, 3),
        ("cost_usd", 0.25, Decimal("0.25")),
        ("status", "Completed", "success"),
        ("end_time", datetime(2026, 1, 1), datetime(2026, 1, 1).astimezone()),
        ("event_id", "0190a1b2-0000-7000-8000-000000000001", UUID("0190a1b2-0000-7000-8000-000000000001")),
        ("run_id", 17, "17"),
        ("metrics_json", [1], {"value": [1]}),
    ],
)
def test_wrong_values_are_put_right_where_that_is_no_guess(
    recorder: Recorder, field: str, value: Any, arrives: Any
) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter, **{field: value}):
        pass
    assert getattr(_started_and_ended(recorder.messages())[0], field) == arrives


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("items_failed", "three", "'three'"),
        ("items_failed", -1, "-1"),
        ("end_time", "yesterday", "'yesterday'"),
        ("status", "great", "'great'"),
        ("commit_hash", "no hash", "'no hash'"),
        ("event_id", "not a uuid", "'not a uuid'"),
        ("cost_usd", -1, "-1"),
        ("start_time", datetime(1, 1, 1), "0001-01-01T00:00:00"),
        ("start_time", datetime(1969, 1, 1, tzinfo=UTC), datetime(1969, 1, 1, tzinfo=UTC)),
    ],
)
def test_wrong_values_that_cannot_be_put_right_are_kept_in_the_context(
    recorder: Recorder, field: str, value: Any, kept: str
) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter, **{field: value, "website": "example.org"}):
        pass
    start, end = _started_and_ended(recorder.messages())
    assert start.context_json is not None
    assert start.context_json[field] in (kept, value)
    assert start.website == "example.org"
    assert end.status == "success"


def test_none_says_nothing_in_any_field_also_in_those_that_cannot_be_set(recorder: Recorder) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("event_id", "run_id", "start_time", "status", "host", "no_field"))
    with runlake.track_run("a", "b", emitter=recorder.emitter, **nothing) as run:
        run.update(items_failed=1, event_id=None)
        run.update(items_skipped=2, run_event_id=None, ts=None, **nothing)
    state = recorder.state("a")
    assert (state["items_failed"], state["items_skipped"]) == (1, 2)
    assert (state["status"], state["context_json"]) == ("success", None)
    assert state["host"]


def test_nothing_that_an_agent_gives_raises(recorder: Recorder) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    bad: Any = Bad()
    run: Any
    with runlake.track_run(bad, bad, emitter=recorder.emitter, website=bad, run_id=bad, nothing=bad) as run:
        run.event(bad, bad)
        run.event(None)
        run.event("", {"a": bad, bad: 1})
        run.update(status=bad, end_time=bad, nonsense=bad)
        run.commit(bad, bad, bad, bad)
        with runlake.track_run("", "", emitter=recorder.emitter, run_id="", parent_run_id=bad, trace_id=[]):
            pass
    assert recorder.emitter.close()


def test_a_run_without_an_emitter_to_be_had_is_only_unrecorded() -> None:
    emitter: Any = object()
    with runlake.track_run("a", "b", emitter=emitter) as run:
        run.event("step")
        run.update(items_failed=1)
        run.commit("abcdef1")


class _Bad:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emitter]:
    """An emitter at whose end every message of a run is valid, however odd what the run was told."""
    router = Router(ipc(tmp_path_factory.mktemp("shared")))
    emitter = Emitter(router.endpoint)
    yield emitter
    assert emitter.close(20)
    router.close()
    messages = []
    for raw in (raw for received in router.received for raw in wire.split_payload(received.payload)):
        if b"commit.associated" not in raw:  # what is no commit is for the worker to refuse, and to keep
            messages.append(wire.decode_message(raw))
            validate(messages[-1], datetime.now(UTC))
    starts = [message for message in messages if isinstance(message, RunStarted)]
    assert len(starts) >= 2
    ended = {message.run_event_id for message in messages if isinstance(message, RunUpdated) and message.status}
    assert {start.event_id for start in starts} <= ended


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3)
    | st.sampled_from(["x" * 70_000, "\ud800", {1}, object, 10**400, datetime(2026, 1, 1), timedelta(1), Path("/a")])
    | st.builds(_Bad),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
_FIELDS = st.dictionaries(
    st.sampled_from(
        sorted({*RunStarted.__struct_fields__, *RunUpdated.__struct_fields__, "no_field"} - {"agent_name", "job_type"})
    ),
    _ANY,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_a_run_is_told_nothing_raises_and_the_worker_takes_every_run(
    shared: Emitter, data: st.DataObject
) -> None:
    def draw() -> Any:
        return data.draw(_ANY)

    options = data.draw(st.dictionaries(st.sampled_from(["key", "traceparent", "tracestate", "heartbeat"]), _ANY))
    fields: dict[str, Any] = {**data.draw(_FIELDS), **options}
    with runlake.track_run(draw(), draw(), emitter=shared, **fields) as run:
        run.event(draw(), draw())
        run.update(**data.draw(_FIELDS))
        run.progress(draw(), draw())
        run.metrics(value=draw())
        run.heartbeat(draw())
        run.llm_call(
            draw(), draw(), usage=draw(), response=draw(), cost_usd=draw(), prompt=draw(), finish_reason=draw()
        )
        run.commit(draw(), draw(), draw(), draw())
        with run.child(draw(), draw(), **data.draw(_FIELDS)) as child:
            assert isinstance(child.run_id, str)
        assert [type(text) for text in (run.traceparent(), run.tracestate(), run.run_id)] == [str] * 3


def test_exceptions_of_every_kind_are_recorded_with_what_can_be_had_of_them(recorder: Recorder) -> None:
    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    def deep(levels: int) -> None:
        deep(levels + 1)

    chained = ValueError("first")
    chained.__cause__ = chained
    errors: list[tuple[str, BaseException, str]] = [
        ("silent", SilentError("x"), "SilentError"),
        (
            "group",
            ExceptionGroup("many", [ValueError("a"), SilentError("b")]),
            "ExceptionGroup: many (2 sub-exceptions)",
        ),
        ("chained", chained, "ValueError: first"),
        ("surrogate", ValueError("\ud800"), "ValueError: ?"),
    ]
    for name, error, _ in errors:
        with pytest.raises(type(error)), runlake.track_run(name, "j", emitter=recorder.emitter):
            raise error
    with pytest.raises(RecursionError), runlake.track_run("deep", "j", emitter=recorder.emitter):
        deep(0)
    for name, _, summary in errors:
        state = recorder.state(name)
        assert (state["status"], state["error_summary"]) == ("failure", summary)
    details = recorder.state("deep")["error_details"]
    assert "RecursionError" in details
    assert len(details) <= 65_536
