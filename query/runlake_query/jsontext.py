"""JSON out of pieces that are JSON already: rows come from SQL as JSON texts, and are joined here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()


def array(items: Iterable[str]) -> str:
    """Texts that each are JSON, as one array."""
    return f"[{','.join(items)}]"


def quoted(text: str | None) -> str:
    """A string or null."""
    return _encoder.encode(text).decode()


def encode(value: Any) -> bytes:
    """Any value of Python."""
    return _encoder.encode(value)
