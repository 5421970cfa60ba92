"""Calls of language models: nothing counted twice, and the run's totals right."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydantic
import pytest

import runlake
from runlake.llm import Tokens, finish_reason_of, prompt_hash, tokens_of
from runlake.messages import RunUpdated
from support.recorder import Recorder

CHAT = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 5}}  # fmt: skip
RESPONSES = {"input_tokens": 100, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 60}}
ANTHROPIC = {"input_tokens": 40, "output_tokens": 20, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 7}


class Details(pydantic.BaseModel):
    cached_tokens: int | None = None


class Usage(pydantic.BaseModel):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: Details | None = None


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path)
    yield recorder
    recorder.messages()


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (CHAT, Tokens(40, 20, 60)),
        (RESPONSES, Tokens(40, 20, 60)),
        (ANTHROPIC, Tokens(40, 20, 60, 7)),
        (SimpleNamespace(**ANTHROPIC), Tokens(40, 20, 60, 7)),
        (Usage(prompt_tokens=100, completion_tokens=20), Tokens(100, 20)),
        (Usage(prompt_tokens=100, completion_tokens=20, prompt_tokens_details=Details(cached_tokens=60)),
         Tokens(40, 20, 60)),
        (Usage(prompt_tokens=9, completion_tokens=2, prompt_tokens_details=Details()), Tokens(9, 2)),
        ({**ANTHROPIC, "cache_read_input_tokens": None, "cache_creation_input_tokens": None}, Tokens(40, 20)),
        ({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}}, Tokens(0, 1, 9)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Tokens(0, 0)),
        ({"input_tokens": "many", "output_tokens": -1}, Tokens()),
        (None, Tokens()),
        (object(), Tokens()),
    ],
)  # fmt: skip
def test_usage_of_openai_and_anthropic_is_read_without_counting_a_token_twice(usage: object, tokens: Tokens) -> None:
    assert tokens_of(usage) == tokens


def test_finish_reasons_are_found_in_answers_of_either() -> None:
    chat = SimpleNamespace(choices=[SimpleNamespace(finish_reason="length")])
    assert finish_reason_of(chat) == "length"
    assert finish_reason_of({"stop_reason": "end_turn"}) == "end_turn"
    assert finish_reason_of({"status": "completed"}) == "completed"
    assert finish_reason_of(object()) is None


def test_a_call_is_an_event_after_opentelemetrys_names_and_no_prompt_is_kept(recorder: Recorder) -> None:
    answer = {"model": "small-2026", "usage": ANTHROPIC, "stop_reason": "end_turn"}
    with runlake.track_run("a", "b", emitter=recorder.emitter) as run:
        run.llm_call(
            "small", "anthropic", response=answer, prompt="a secret", cost_usd="0.0125", latency_ms=812.5, attempt=2
        )
    (call,) = recorder.events("llm_call")
    assert call == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "small",
        "gen_ai.response.model": "small-2026",
        "gen_ai.response.finish_reasons": ["end_turn"],
        "gen_ai.usage.input_tokens": 107,  # the convention: all input, cached or not
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.cache_creation.input_tokens": 7,
        "cost_usd": 0.0125,
        "latency_ms": 812.5,
        "prompt_hash": hashlib.sha256(b"a secret").hexdigest(),
        "attempt": 2,
    }
    state = recorder.state("a")
    assert {name: state[name] for name in Tokens.__struct_fields__} == {
        "input_tokens": 40,
        "output_tokens": 20,
        "cache_read_tokens": 60,
        "cache_write_tokens": 7,
    }
    assert (state["model"], state["provider"], state["cost_usd"]) == ("small", "anthropic", Decimal("0.0125"))


def test_calls_add_up_on_top_of_what_the_agent_set_and_metrics_do_not_undo_them(recorder: Recorder) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter, input_tokens=1_000) as run:
        run.llm_call("one", usage=CHAT, cost_usd=0.1)
        run.update(output_tokens=500)
        run.llm_call("two", usage=CHAT, cost_usd=Decimal("0.2"))
        run.llm_call(input_tokens=1, output_tokens=1)
        run.metrics(input_tokens=7, loss=0.5)
    state = recorder.state("a")
    assert (state["input_tokens"], state["output_tokens"], state["cache_read_tokens"]) == (1_081, 521, 120)
    assert (state["cost_usd"], state["model"]) == (Decimal("0.3"), "one")
    last = [m for m in recorder.messages() if isinstance(m, RunUpdated) and m.metrics_json][-1]
    assert last.input_tokens == 1_081  # said with the map, or the worker would take the map's


class SlowlyAdded(int):
    """A count that lets other threads go on in the middle of being added, if they can."""

    moment = threading.Event()

    def __radd__(self, other: int) -> int:
        self.moment.wait(0.001)
        return other + int(self)


def test_calls_of_many_threads_all_count(recorder: Recorder) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter) as run:

        def call() -> None:
            for _ in range(20):
                run.llm_call(input_tokens=SlowlyAdded(1), cost_usd=Decimal("0.001"))

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    state = recorder.state("a")
    assert (state["input_tokens"], state["cost_usd"]) == (80, Decimal("0.08"))


@pytest.mark.parametrize("cost", [-1, "much", float("nan"), True, 10**9, object()])
def test_a_cost_that_is_none_is_left_out(recorder: Recorder, cost: Any) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter) as run:
        run.llm_call(input_tokens=1, cost_usd=cost)
    assert recorder.state("a")["cost_usd"] is None
    assert "cost_usd" not in recorder.events("llm_call")[0]


def test_prompts_that_mean_the_same_have_the_same_hash() -> None:
    assert (
        prompt_hash("caf\u00e9\r\nx") == prompt_hash("cafe\u0301\nx") == hashlib.sha256("café\nx".encode()).hexdigest()
    )
    messages = [{"role": "user", "content": "hi"}]
    assert prompt_hash(messages) == prompt_hash([{"content": "hi", "role": "user"}])
    assert prompt_hash(messages) == hashlib.sha256(b'[{"content":"hi","role":"user"}]').hexdigest()
    assert prompt_hash(messages) != prompt_hash(messages * 2)
    assert prompt_hash("x" * 5 * 2**20) is None
    assert prompt_hash([{"content": "x" * 300_000}]) is None  # cut, so no longer what it was
