"""Encoding of messages on the agent's thread: no value in a map may cost an agent its message.

The quick way is msgspec's encoder, for maps of text, numbers, lists and maps, as nearly all are. A message whose maps
hold anything else, or that the worker would refuse for its size, is rebuilt from plain values first (`plainvalue.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from runlake.briefmessages import BriefEnd, BriefEvent, BriefMessage, BriefStart
from runlake.interruption import pass_on
from runlake.messages import MAX_TEXT_CHARS, CommitAssociated, Message, RunEvent
from runlake.plainvalue import CUT, MAX_DESCRIPTION_CHARS, PlainValues, clean, cut, describe
from runlake.validation import MAX_MAP_DEPTH, MAX_MAP_VALUES
from runlake.wire import MAX_MESSAGE_BYTES

__all__ = ["CUT", "MAX_DESCRIPTION_CHARS", "PlainEncoder", "cut", "describe"]

QUICK_CHARS = 196_608
"""A map with more text than this may be too large for a message."""
_MAPS = ("payload", "metrics_json", "context_json")
_AS_IT_IS = frozenset((UUID, datetime, Decimal, bool, float))
_ROOM_BYTES = 2_048
_FEW_VALUES = 64
_SHORT_CHARS = 16_384
_WITHOUT_MAPS = frozenset((CommitAssociated, BriefStart, BriefEnd))
_EVENTS = frozenset((RunEvent, BriefEvent))


class PlainEncoder:
    """Encodes messages on the caller's thread. `on_described` is called for each value that was replaced by a
    description or cut."""

    def __init__(self, on_described: Callable[[], object]) -> None:
        self._on_described = on_described
        self._encode = msgspec.msgpack.Encoder(enc_hook=self._hook).encode

    def encode(self, message: Message | BriefMessage) -> bytes:
        """One message as MessagePack, as the wire wants it. Raises when there is no way to encode it."""
        try:
            kind = type(message)
            if kind in _EVENTS:
                fit = message.payload is None or _fits(message.payload)  # type: ignore[union-attr]
            elif kind in _WITHOUT_MAPS:
                fit = True
            else:
                metrics, context = message.metrics_json, message.context_json  # type: ignore[union-attr]
                fit = (metrics is None or _fits(metrics)) and (context is None or _fits(context))
            if fit:
                raw = self._encode(message)
                if len(raw) <= MAX_MESSAGE_BYTES:
                    return raw
        except BaseException as error:  # noqa: BLE001 (whatever an object did, the slow way avoids it)
            pass_on(error)
        return self._rebuilt(message)

    def _rebuilt(self, message: Message | BriefMessage) -> bytes:
        values = {name: getattr(message, name) for name in message.__struct_fields__}
        values = {name: value for name, value in values.items() if value is not None}
        maps = {name: values.pop(name) for name in _MAPS if name in values}
        fixed: dict[str, Any] = {name: self._fixed(value, MAX_MESSAGE_BYTES) for name, value in values.items()}
        size = sum(4 * len(value) if type(value) is str else 64 for value in fixed.values()) + _ROOM_BYTES
        if size > MAX_MESSAGE_BYTES // 2:
            fixed = {name: self._fixed(value, _SHORT_CHARS) for name, value in values.items()}
            size = len(self._encode(type(message)(**fixed)))
        room = (MAX_MESSAGE_BYTES - size) // max(len(maps), 1) - _ROOM_BYTES * 8
        plain = {name: PlainValues(room, self._on_described).map(value) for name, value in maps.items()}
        return self._encode(type(message)(**{**fixed, **plain}))

    def _fixed(self, value: Any, chars: int) -> Any:
        """The value of a field that is no map; the worker judges it."""
        if isinstance(value, str):
            if len(value) > chars:
                self._on_described()
            return clean(cut(value, chars))
        return value if type(value) in _AS_IT_IS else self._hook(value)

    def _hook(self, value: Any) -> Any:
        """What msgspec does not know, in a field that is no map: numpy's numbers, paths."""
        return PlainValues(MAX_TEXT_CHARS, self._on_described).of(value, 1)


def _fits(value: Any) -> bool:
    """Whether a map can go out as it is: keys and values that the wire knows, and within the worker's bounds."""
    if type(value) is not dict:
        return False
    chars = 0
    if len(value) <= _FEW_VALUES:  # most are flat and small: all of the below in one pass
        for key, item in value.items():
            kind = type(item)
            if kind is str:
                chars += len(item)
            elif kind is float:
                if item - item != 0.0:  # not finite
                    return False
            elif kind is not int and item is not None and kind is not bool:
                break
            if type(key) is not str:
                return False
            chars += len(key)
        else:
            return chars <= QUICK_CHARS
    level: list[Any] = [value]
    values = chars = 0
    for _ in range(MAX_MAP_DEPTH):
        deeper: list[Any] = []
        for container in level:
            values += len(container)
            if values > MAX_MAP_VALUES:
                return False
            if type(container) is dict:
                for key in container:
                    if type(key) is not str:
                        return False
                    chars += len(key)
                container = container.values()  # noqa: PLW2901
            for item in container:
                kind = type(item)
                if kind is str:
                    chars += len(item)
                elif kind is int or kind is bool or item is None:
                    continue
                elif kind is float:
                    if item - item != 0.0:  # not finite
                        return False
                elif kind is dict or kind is list or kind is tuple:
                    deeper.append(item)
                else:
                    return False
        if chars > QUICK_CHARS:
            return False
        if not deeper:
            return True
        level = deeper
    return False
