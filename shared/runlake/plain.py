"""Encoding of messages that hold what MessagePack, or the lake, cannot: no value may cost an agent its message.

The quick way is msgspec's encoder with a hook for unknown objects. A message that it cannot take (a huge integer, a
cycle, a lone surrogate), or that the worker would refuse for a map's keys or depth, is rebuilt from plain values first.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

from runlake.messages import Message, RunEvent, RunStarted, RunUpdated
from runlake.validation import MAX_MAP_DEPTH, MAX_MAP_VALUES

MAX_DESCRIPTION_CHARS = 1_024
CUT = "…"
"""Ends a text that was cut."""

_NATIVE = (bool, float, bytes, datetime, date, time, timedelta, Decimal, UUID, Enum)


def cut(text: str, chars: int) -> str:
    """The text, at most `chars` characters long, ending in `CUT` when something is missing."""
    return text if len(text) <= chars else text[: chars - len(CUT)] + CUT


def describe(value: object) -> str:
    """A value in words: its repr, cut, or its type when even that fails."""
    try:
        return cut(repr(value), MAX_DESCRIPTION_CHARS)
    except Exception:  # noqa: BLE001 (the agent's own code runs here)
        return f"<{type(value).__name__}>"


class PlainEncoder:
    """Encodes messages on the caller's thread. `on_described` is called for each value that became a description."""

    def __init__(self, on_described: Callable[[], object]) -> None:
        self._on_described = on_described
        self._encode = msgspec.msgpack.Encoder(enc_hook=self._hook).encode

    def encode(self, message: Message) -> bytes:
        """One message as MessagePack, as the wire wants it. Raises when there is no way to encode it."""
        try:
            if _maps_fit(message):
                return self._encode(message)
        except Exception:  # noqa: BLE001 (whatever it was, the slow way avoids it)
            pass
        values = {name: getattr(message, name) for name in message.__struct_fields__}
        rebuilt = {name: self._plain(value, 0, [MAX_MAP_VALUES]) for name, value in values.items() if value is not None}
        return self._encode(type(message)(**rebuilt))

    def _hook(self, value: Any) -> Any:
        """What msgspec does not know. Maps, queues and paths have a plain form; the rest is described."""
        if isinstance(value, Mapping):
            return dict(value)
        if isinstance(value, deque):
            return list(value)
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        self._on_described()
        return describe(value)

    def _plain(self, value: Any, depth: int, left: list[int]) -> Any:
        """`value` from maps with text keys, lists and scalars only. `left` counts down the values it may still hold."""
        left[0] -= 1
        if value is None or isinstance(value, _NATIVE):
            return value
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode("utf-8")
        if isinstance(value, int):
            return value if -(2**63) <= value < 2**64 else cut(str(value), MAX_DESCRIPTION_CHARS)
        if depth < MAX_MAP_DEPTH and left[0] > 0:
            if isinstance(value, Mapping):
                items = [(key, item) for key, item in value.items() if left[0] > 0]
                return {self._key(key): self._plain(item, depth + 1, left) for key, item in items}
            if isinstance(value, (list, tuple, set, frozenset, deque)):
                return [self._plain(item, depth + 1, left) for item in value if left[0] > 0]
        self._on_described()
        return describe(value).encode("utf-8", "replace").decode("utf-8")

    @staticmethod
    def _key(key: Any) -> str:
        text = key if isinstance(key, str) else describe(key)
        return text.encode("utf-8", "replace").decode("utf-8")


def _maps_fit(message: Message) -> bool:
    if isinstance(message, RunEvent):
        return not message.payload or _fits(message.payload, 1)
    if isinstance(message, RunStarted | RunUpdated):
        metrics, context = message.metrics_json, message.context_json
        return (not metrics or _fits(metrics, 1)) and (not context or _fits(context, 1))
    return True


def _fits(value: Any, depth: int) -> bool:
    """Whether every key is text and nothing is nested too deeply: what the encoder takes and the worker refuses."""
    if depth > MAX_MAP_DEPTH:
        return False
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                return False
        value = value.values()
    for item in value:
        kind = type(item)
        if (kind is dict or kind is list or kind is tuple) and not _fits(item, depth + 1):
            return False
    return True
