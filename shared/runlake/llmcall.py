"""One call of a language model, as a run records it: the event, and what it adds to the run's own fields."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from runlake import llm
from runlake.llm import Tokens


class LlmCall(NamedTuple):
    """`payload` is the event's; `names` are model and provider, where they are known."""

    payload: dict[str, Any]
    tokens: Tokens
    cost_usd: Decimal | None
    names: dict[str, str]


def read_call(
    call: dict[str, Any], given: tuple[int | None, int | None, int | None, int | None], more: dict[str, Any]
) -> LlmCall:
    """Put together what `run.llm_call` was told: `call` are its arguments by name, `given` its token counts, which go
    before those of the usage, and `more` what goes into the event besides."""
    response = call["response"]
    usage = call["usage"] if call["usage"] is not None else llm.usage_of(response)
    tokens = llm.tokens_of(usage).given(given)
    answered = llm.model_of(response)
    model, provider = call["model"] or answered, call["provider"]
    cost = llm.dollars(call["cost_usd"])
    payload = llm.payload(
        tokens,
        model=model,
        provider=provider,
        response_model=answered,
        operation=call["operation"],
        finish_reason=call["finish_reason"] or llm.finish_reason_of(response),
        cost_usd=cost,
        latency_ms=call["latency_ms"],
        prompt_digest=call["prompt_hash"] if call["prompt"] is None else llm.prompt_hash(call["prompt"]),
        attributes=more,
    )
    names = {name: value for name, value in (("model", model), ("provider", provider)) if value is not None}
    return LlmCall(payload, tokens, cost, names)
