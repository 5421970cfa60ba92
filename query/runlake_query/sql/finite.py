"""JSON that everyone can read: DuckDB writes NaN and infinities as words that JSON does not have, wherever they are."""

from __future__ import annotations

import re

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?\b(?:nan|inf(?:inity)?)\b', re.IGNORECASE | re.DOTALL)
_SUSPECT = re.compile(rb"[:\[,\s]-?(?:nan|inf)|\A-?(?:nan|inf)", re.IGNORECASE)


def with_nulls(text: bytes) -> bytes:
    """JSON, or lines of it, with `null` in the place of each such word that is no part of a string."""
    if _SUSPECT.search(text) is None:
        return text
    return _TOKEN.sub(lambda found: found[0] if found[0].startswith(b'"') else b"null", text)
