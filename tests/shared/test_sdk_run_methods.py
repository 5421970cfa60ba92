"""What a run can be told: progress, metrics, children, keys, heartbeats."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest

import runlake
from runlake import wire
from runlake.heartbeat import Promise
from runlake.messages import RunEvent, RunStarted, RunUpdated
from runlake.runids import RUN_NAMESPACE
from support.recorder import Recorder
from support.router import Received, Router, accept, ipc
from support.waiting import eventually


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path)
    yield recorder
    recorder.messages()


def test_an_event_takes_its_payload_as_a_map_by_keywords_or_both(recorder: Recorder) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter) as run:
        run.event("e", {"x": 1})
        run.event("e", x=2, self="me")
        run.event("e", {"x": 3}, y=4)
        run.event(type="e", payload={"x": 5})
    assert recorder.events("e") == [{"x": 1}, {"x": 2, "self": "me"}, {"x": 3, "y": 4}, {"x": 5}]


def test_progress_of_every_item_costs_few_messages_and_the_last_word_arrives(recorder: Recorder) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter) as run:
        for done in range(1, 5_001):
            run.progress(done, 10_000)
        run.update(items_failed=1)
        run.progress(5_002, 10_000)
    state = recorder.state("a")
    assert (state["items_succeeded"], state["items_discovered"], state["items_failed"]) == (5_002, 10_000, 1)
    assert len(recorder.messages()) < 100


def test_metrics_of_other_names_stay(recorder: Recorder) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter, metrics_json={"given": 0}) as run:
        run.metrics(loss=0.5)
        run.metrics(loss=0.25, epoch=2)
    assert recorder.state("a")["metrics_json"] == {"given": 0, "loss": 0.25, "epoch": 2}


def test_a_child_is_below_its_run_wherever_it_is_started(recorder: Recorder) -> None:
    with runlake.track_run("parent", "p", emitter=recorder.emitter, trace_id="t1") as parent:
        pass
    child = parent.child("c", website="example.org")

    def work() -> None:
        with child, child.child("g", "grandchild"):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    starts = {message.job_type: message for message in recorder.messages() if isinstance(message, RunStarted)}
    assert (starts["c"].agent_name, starts["c"].parent_run_id, starts["c"].trace_id) == ("parent", parent.run_id, "t1")
    assert starts["c"].website == "example.org"
    assert (starts["g"].agent_name, starts["g"].parent_run_id) == ("grandchild", starts["c"].run_id)


def test_a_key_gives_the_same_run_id_each_time_by_the_stated_rule_and_a_run_of_its_own(recorder: Recorder) -> None:
    runs = [runlake.track_run("crawler", "crawl", emitter=recorder.emitter, key="2026-01-28") for _ in range(2)]
    for run in runs:
        with run:
            pass
    assert uuid5(NAMESPACE_URL, "tag:runlake,2026:run") == RUN_NAMESPACE
    expected = str(uuid5(RUN_NAMESPACE, "crawler\0crawl\x002026-01-28"))
    assert {run.run_id for run in runs} == {expected, runlake.run_id_for("crawler", "crawl", "2026-01-28")}
    assert UUID(expected).version == 5
    assert runs[0].event_id != runs[1].event_id
    assert runlake.run_id_for("crawler", "crawl", "2026-01-29") != expected
    with runlake.track_run("crawler", "crawl", emitter=recorder.emitter, key="k", run_id="my own") as own:
        assert own.run_id == "my own"


async def test_a_run_is_delivered_when_all_it_said_is_acknowledged_and_not_before(tmp_path: Path) -> None:
    may_answer = threading.Event()

    def answer_later(received: Received) -> list[wire.Reply | bytes]:
        return accept(received) if may_answer.is_set() else []

    with Router(ipc(tmp_path), answer_later) as router:
        emitter = runlake.Emitter(router.endpoint, ack_timeout_s=0.05)
        with runlake.track_run("a", "b", emitter=emitter) as run:
            run.event("step")
            assert not run.delivered(0.01)
            assert not await run.delivered_async(0.01)
            may_answer.set()
            assert run.delivered(20)
        assert await run.delivered_async(20)
        assert len({message.event_id for message in router.messages}) == 3
        assert emitter.close()
    nothing: Any = object()
    with runlake.track_run("a", "b", emitter=nothing) as unrecorded:
        assert not unrecorded.delivered(0)
        assert not await unrecorded.delivered_async(0)


# Heartbeats


def test_a_run_promises_its_next_sign_of_life_and_renews_the_promise_by_what_it_says(recorder: Recorder) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter, heartbeat=0.2) as run:
        said = 0

        def renewed_twice() -> bool:
            nonlocal said
            run.event("step")
            said += 1
            return recorder.emitter.stats().emitted >= 1 + said + 2  # the start, the events, and two renewals

        eventually(renewed_twice)
        run.update(items_succeeded=1)
    messages = recorder.messages()
    promises = [m.heartbeat_until for m in messages if isinstance(m, RunStarted | RunUpdated) and m.heartbeat_until]
    assert promises == sorted(promises)
    assert isinstance(messages[0], RunStarted)
    assert len(promises) == 4  # the start, two renewals, and the update
    assert sum(isinstance(message, RunEvent) for message in messages) == said
    for message in messages:
        if isinstance(message, RunUpdated) and message.heartbeat_until is not None:
            assert message.heartbeat_until - message.ts == timedelta(seconds=0.3)


def test_a_promise_lasts_half_as_long_again_and_is_renewed_after_a_quarter() -> None:
    promise = Promise(100)
    now = datetime(2026, 1, 28, tzinfo=UTC)
    assert promise.renew(now) == now + timedelta(seconds=150)
    assert promise.beat_s == 50
    assert Promise(10**9).renew(now) < now + timedelta(hours=24)


def test_a_thread_beats_while_the_block_lasts_when_it_is_asked_to(recorder: Recorder) -> None:
    def beats() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "runlake-heartbeat"]

    with runlake.track_run("a", "b", emitter=recorder.emitter, heartbeat=0.05, beat=True) as run:
        eventually(lambda: recorder.emitter.stats().emitted >= 4)  # nothing else speaks
    eventually(lambda: not beats())
    assert run.run_id  # the run is still there: it was its end that stopped the thread
    assert recorder.state("a")["status"] == "success"


def test_a_heartbeat_by_hand_promises_from_now_on(recorder: Recorder) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter) as run:
        run.heartbeat()  # nothing was promised: nothing to say
        run.heartbeat(60)
        run.heartbeat()
    updates = [message for message in recorder.messages() if isinstance(message, RunUpdated)]
    assert [message.heartbeat_until is not None for message in updates] == [True, True, False]


@pytest.mark.parametrize("given", [{"heartbeat": "often"}, {"traceparent": 17}, {"key": object()}, {"beat": "yes"}])
def test_options_that_cannot_be_used_do_not_hurt(recorder: Recorder, given: dict[str, Any]) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter, **given) as run:
        run.event("step")
        run.progress("many")  # type: ignore[arg-type]
        run.heartbeat("soon")  # type: ignore[arg-type]
        run.llm_call(usage=object(), cost_usd="much", prompt=object(), response=object())
    assert recorder.events("step") == [{}]
    assert recorder.state("a")["status"] == "success"
