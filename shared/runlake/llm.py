"""Calls of language models: what a usage object says, and what is recorded of a call.

A run's token fields do not overlap: `input_tokens` is what was neither read from a cache nor written to one. Payloads
follow OpenTelemetry's GenAI conventions, where `gen_ai.usage.input_tokens` is all input, cached or not.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from msgspec import Struct

from runlake.interruption import pass_on
from runlake.messages import MAX_COUNT
from runlake.plainvalue import PlainValues
from runlake.validation import usable_cost

EVENT_TYPE = "llm_call"
_MAX_PROMPT_BYTES = 4 * 1024 * 1024


class Tokens(Struct, frozen=True):
    """Tokens of one call, or of a run; the four do not overlap. None where nothing was said."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None

    def given(self, counts: Sequence[object]) -> Tokens:
        """These tokens, but for the counts that were given, in the order of the fields."""
        found = [count(value) for value in counts]
        known = (self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_write_tokens)
        return Tokens(*(old if new is None else new for new, old in zip(found, known, strict=True)))


def tokens_of(usage: object) -> Tokens:
    """Read a usage object or map of OpenAI's (chat completions and responses) or Anthropic's form.

    OpenAI counts cached tokens into the prompt's, and says how many in `prompt_tokens_details` or
    `input_tokens_details`: they are taken out here. Anthropic counts them apart.
    """
    if usage is None:
        return Tokens()
    prompt = count(_get(usage, "prompt_tokens"))
    details = _get(usage, "prompt_tokens_details" if prompt is not None else "input_tokens_details")
    cached = count(_get(details, "cached_tokens"))
    total = prompt if prompt is not None else count(_get(usage, "input_tokens"))
    output = count(_get(usage, "completion_tokens" if prompt is not None else "output_tokens"))
    if cached is not None:
        return Tokens(None if total is None else max(total - cached, 0), output, cached)
    read, written = _get(usage, "cache_read_input_tokens"), _get(usage, "cache_creation_input_tokens")
    return Tokens(total, output, count(read), count(written))


def usage_of(response: object) -> object:
    """The usage that a whole answer holds."""
    return _get(response, "usage")


def model_of(response: object) -> str | None:
    """The model that answered."""
    model = _get(response, "model")
    return model if isinstance(model, str) else None


def finish_reason_of(response: object) -> str | None:
    """Why the model stopped: OpenAI's `choices[0].finish_reason` or `status`, Anthropic's `stop_reason`."""
    choices = _get(response, "choices")
    first = choices[0] if isinstance(choices, list | tuple) and choices else None
    for reason in (_get(first, "finish_reason"), _get(response, "stop_reason"), _get(response, "status")):
        if isinstance(reason, str):
            return reason
    return None


def prompt_hash(prompt: object) -> str | None:
    """SHA-256 of a prompt, in hexadecimal, so that equal prompts are found without keeping them.

    A text is hashed as UTF-8, after its line ends became LF and Unicode's form NFC; anything else (a list of messages)
    as JSON with sorted keys, without white space. None for a prompt beyond 4 MiB, or that cannot be read.
    """
    try:
        if isinstance(prompt, str):
            if len(prompt) > _MAX_PROMPT_BYTES:
                return None
            text = prompt.replace("\r\n", "\n").replace("\r", "\n")
            raw = (text if text.isascii() else unicodedata.normalize("NFC", text)).encode("utf-8", "replace")
        else:
            cut: list[None] = []
            plain = PlainValues(_MAX_PROMPT_BYTES, lambda: cut.append(None)).of(prompt, 1)
            if cut:  # two prompts that differ in what was cut must not look the same
                return None
            raw = msgspec.json.encode(plain, order="deterministic")
        return hashlib.sha256(raw).hexdigest()
    except BaseException as error:  # noqa: BLE001 (the agent's own objects are at work here)
        pass_on(error)
        return None


def count(value: object) -> int | None:
    """A count of tokens, or None for what is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT else None


def dollars(value: object) -> Decimal | None:
    """A cost in US dollars as its column holds it, or None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        return usable_cost(Decimal(str(value)))
    except InvalidOperation:
        return None


def payload(
    tokens: Tokens,
    *,
    model: str | None,
    provider: str | None,
    response_model: str | None,
    operation: str,
    finish_reason: object,
    cost_usd: Decimal | None,
    latency_ms: object,
    prompt_digest: str | None,
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    """What the event of a call says."""
    parts = (tokens.input_tokens, tokens.cache_read_tokens, tokens.cache_write_tokens)
    reasons = finish_reason if finish_reason is None or isinstance(finish_reason, list | tuple) else [finish_reason]
    said: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.response.model": response_model,
        "gen_ai.response.finish_reasons": reasons,
        "gen_ai.usage.input_tokens": sum(part or 0 for part in parts) if any(p is not None for p in parts) else None,
        "gen_ai.usage.output_tokens": tokens.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": tokens.cache_read_tokens,
        "gen_ai.usage.cache_creation.input_tokens": tokens.cache_write_tokens,
        "cost_usd": None if cost_usd is None else float(cost_usd),
        "latency_ms": latency_ms,
        "prompt_hash": prompt_digest,
        **attributes,
    }
    return {name: value for name, value in said.items() if value is not None}


def _get(holder: object, name: str) -> Any:
    if holder is None:
        return None
    getter: Callable[..., Any] | None = holder.get if isinstance(holder, Mapping) else None
    try:
        return getter(name) if getter is not None else getattr(holder, name, None)
    except BaseException as error:  # noqa: BLE001 (the agent's own object)
        pass_on(error)
        return None
