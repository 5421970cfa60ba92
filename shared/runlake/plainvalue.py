"""Turning any Python value into what a map of a message may hold, whatever it is and does.

What has a plain form gets it: maps, sequences and sets, times, UUIDs, decimals, paths, enums, numpy's scalars and small
arrays, dataclasses, attrs, pydantic (1 and 2) and msgspec objects, named tuples, exceptions. What has none is replaced
by a description, what is too large or too deep is cut, and both are counted. A field that an object hides from its repr
or from its export (`repr=False`, `exclude=True`) is left out: secrets live there.

Bounds: MAX_MAP_VALUES values, MAX_MAP_DEPTH levels, and the bytes that the message has left. So the time is bounded
too, but for that of a repr of the agent's own.
"""

from __future__ import annotations

import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set, ValuesView
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any
from uuid import UUID

from runlake.interruption import pass_on
from runlake.validation import MAX_MAP_DEPTH, MAX_MAP_VALUES

MAX_STRING_CHARS = 262_144
MAX_BYTES_VALUE = 65_536
MAX_KEY_CHARS = 1_024
MAX_ARRAY_VALUES = 1_000
MAX_DESCRIPTION_CHARS = 1_024
CUT = "…"
"""Ends a text that was cut; the key, or the last item, that stands for what was left out of a map or a list."""

_MARKERS = 64
"""Values kept back for marks of what was left out: one for each level that is open when the values run out."""
_INTEGER_BITS = 4_096
_SEQUENCES = (list, tuple, deque, range, Set, ValuesView)
_CONTAINERS = frozenset((dict, list, tuple, set, frozenset))
_BYTES = (bytes, bytearray, memoryview)
_DATES = (date, time)
_TEXTS = (UUID, Decimal)
_KEYS = (bool, float, UUID, date, os.PathLike)


def cut(text: str, chars: int) -> str:
    """The text, at most `chars` characters long, ending in `CUT` when something is missing."""
    return text if len(text) <= chars else text[: chars - len(CUT)] + CUT


def clean(text: str) -> str:
    """The text as UTF-8 can hold it; lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def describe(value: object) -> str:
    """A value in words: its repr, cut; its type and size for containers; its type alone when its repr fails."""
    name = type(value).__name__
    try:
        if isinstance(value, _BYTES):
            return f"<{name} of {len(value):,} bytes>"
        if isinstance(value, int):
            return repr(value) if value.bit_length() <= _INTEGER_BITS else f"<{name} of {value.bit_length():,} bits>"
        if isinstance(value, str):
            return repr(value[:MAX_DESCRIPTION_CHARS])
        if isinstance(value, list | tuple | set | frozenset | dict | deque) and len(value) > 8:
            return f"<{name} of {len(value):,}>"
        return cut(repr(value), MAX_DESCRIPTION_CHARS)
    except BaseException as error:  # noqa: BLE001 (the agent's own code runs here)
        pass_on(error)
        return f"<{name}>"


class PlainValues:
    """Converts the values of one map. `size` is how many bytes they may take, `on_described` is called for each value
    that was replaced or cut."""

    def __init__(self, size: int, on_described: Callable[[], object]) -> None:
        self._size = size
        self._left = MAX_MAP_VALUES - _MARKERS
        self._on_described = on_described
        self._open: set[int] = set()

    def map(self, value: object) -> dict[str, Any]:
        """The value as a map: what is none is put into one, under `value`."""
        plain = self.of(value, 1)
        return plain if isinstance(plain, dict) else {"value": plain}

    def of(self, value: Any, depth: int) -> Any:
        """The value from text, numbers, maps with text keys and lists only."""
        self._left -= 1
        self._size -= 9
        try:
            return self._of(value, depth)
        except BaseException as error:  # noqa: BLE001 (the agent's own objects are at work here)
            pass_on(error)
            return self._described(describe(value))

    def _of(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool:
            return value
        if kind in _CONTAINERS:
            return self._container(value, depth, None)
        if isinstance(value, Enum):
            return self._of(value.value, depth)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, int):
            number = int.__index__(value)
            if -(2**63) <= number < 2**64:
                return number
            return str(number) if number.bit_length() <= _INTEGER_BITS else self._described(describe(number))
        if isinstance(value, float):
            real = float.__float__(value)
            return real if math.isfinite(real) else self._described(_not_finite(real))
        if isinstance(value, datetime):
            return value if type(value) is datetime and value.utcoffset() is not None else value.isoformat()
        if isinstance(value, timedelta):
            return value if type(value) is timedelta else self._text(str(value))
        if isinstance(value, _DATES):
            return value.isoformat()
        if isinstance(value, _TEXTS):
            return self._text(str(value))
        if isinstance(value, _BYTES):
            return self._bytes(value)
        if isinstance(value, os.PathLike):
            return self._of(os.fspath(value), depth)
        if isinstance(value, BaseException):
            return {"type": type_name(value), "message": self._text(_message(value))}
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.generic):
            item = value.item()
            return self._described(describe(value)) if isinstance(item, numpy.generic) else self._of(item, depth)
        if numpy is not None and isinstance(value, numpy.ndarray):
            if value.size > MAX_ARRAY_VALUES:
                return self._described(f"<{type(value).__name__} shape={value.shape} dtype={value.dtype}>")
            return self._of(value.tolist(), depth)
        return self._container(value, depth, _fields(value))

    def _container(self, value: Any, depth: int, fields: Iterator[tuple[str, Any]] | None) -> Any:
        items: Iterable[Any]
        if isinstance(value, Mapping):
            items = list(value.items()) if len(value) <= MAX_MAP_VALUES else islice(value.items(), MAX_MAP_VALUES)
        elif isinstance(value, _SEQUENCES) and fields is None:
            items = list(value) if len(value) <= MAX_MAP_VALUES else islice(value, MAX_MAP_VALUES)
        elif fields is None:
            return self._described(describe(value))
        else:
            items = fields
        if depth > MAX_MAP_DEPTH or id(value) in self._open:
            return self._described(
                f"<{type(value).__name__} in itself>" if id(value) in self._open else describe(value)
            )
        self._open.add(id(value))
        try:
            if fields is not None or isinstance(value, Mapping):
                return self._map(items, len(value) if isinstance(value, Mapping) else 0, depth)
            return self._list(items, len(value), depth)
        finally:
            self._open.discard(id(value))

    def _map(self, items: Iterable[tuple[Any, Any]], size: int, depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, item in items:
            if self._full():
                plain[CUT] = self._described(f"{max(size - len(plain), 1):,} more")
                break
            text = self._key(key)
            if text in plain:
                text = f"{text} ({type(key).__name__})"
            plain[text] = self.of(item, depth + 1)
        return plain

    def _list(self, items: Iterable[Any], size: int, depth: int) -> list[Any]:
        plain: list[Any] = []
        for item in items:
            if self._full():
                plain.append(self._described(f"{CUT} {max(size - len(plain), 1):,} more"))
                break
            plain.append(self.of(item, depth + 1))
        return plain

    def _key(self, key: Any) -> str:
        try:
            text = _key_text(key.value if isinstance(key, Enum) else key)
        except BaseException as error:  # noqa: BLE001 (the agent's own object)
            pass_on(error)
            text = describe(key)
        text = clean(cut(text, MAX_KEY_CHARS))
        self._size -= len(text) if text.isascii() else 4 * len(text)
        return text

    def _text(self, text: str) -> str:
        length = len(text)
        kept = text[: min(MAX_STRING_CHARS, max(self._size, 0))]
        if not kept.isascii():
            kept = kept.encode("utf-8", "replace")[: max(self._size, 0)].decode("utf-8", "ignore")
            self._size -= 3 * len(kept)
        self._size -= len(kept)
        return kept if len(kept) == length else self._described(f"{kept}{CUT} ({length:,} characters)")

    def _bytes(self, value: bytes | bytearray | memoryview) -> Any:
        size = value.nbytes if isinstance(value, memoryview) else len(value)
        if size > min(MAX_BYTES_VALUE, self._size):
            return self._described(f"<{type(value).__name__} of {size:,} bytes>")
        self._size -= size
        return bytes(value)

    def _full(self) -> bool:
        return self._left <= 0 or self._size <= 0

    def _described(self, text: str) -> str:
        self._on_described()
        self._size -= 0 if len(text) > MAX_DESCRIPTION_CHARS else len(text)
        return clean(text)


def type_name(value: object) -> str:
    """The name of a value's type, with its module unless that is Python's own."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _key_text(key: Any) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, _KEYS):
        return str(key)
    return describe(key)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as problem:  # noqa: BLE001 (the agent's own exception)
        pass_on(problem)
        return describe(error)


def _not_finite(number: float) -> str:
    """As the JSON form of protocol buffers writes them; DuckDB and Python read them back as numbers."""
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _fields(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The fields of an object whose class declares them, without those it hides. None for any other."""
    kind = type(value)
    dataclass = getattr(kind, "__dataclass_fields__", None)
    if isinstance(dataclass, dict):
        return _attributes(value, (name for name, field in dataclass.items() if field.repr))
    attrs = getattr(kind, "__attrs_attrs__", None)
    if isinstance(attrs, tuple):
        return _attributes(value, (field.name for field in attrs if field.repr is not False))
    pydantic = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "__fields__", None)
    if isinstance(pydantic, dict) and hasattr(value, "__dict__"):
        extra = getattr(value, "__pydantic_extra__", None)
        values = {**value.__dict__, **(extra if isinstance(extra, dict) else {})}
        return iter([(name, item) for name, item in values.items() if _exported(pydantic.get(name))])
    names = getattr(kind, "__struct_fields__", None) or (isinstance(value, tuple) and getattr(kind, "_fields", None))
    if isinstance(names, tuple) and names:
        return _attributes(value, iter(names))
    return None


def _exported(field: Any) -> bool:
    """Whether a pydantic field is shown: a FieldInfo, or in pydantic 1 a ModelField around one."""
    info = getattr(field, "field_info", field)
    return not getattr(info, "exclude", None) and getattr(info, "repr", True) is not False


def _attributes(value: Any, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for name in names:
        try:
            item = getattr(value, name)
        except AttributeError:  # declared and never set
            continue
        yield name, item
