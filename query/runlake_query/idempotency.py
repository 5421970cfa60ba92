"""Idempotency keys: a retry is the same message, so it must carry the same id and the same time.

Dedupe knows recent ids by themselves, and older ones by id and time (see the design). A retry comes later than its
original, so the time cannot be the clock's: it is made of what both have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from runlake.validation import AHEAD, EARLIEST
from runlake_query.problems import InvalidParameter

HEADER = "Idempotency-Key"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_key(headers: Mapping[str, str]) -> UUID | None:
    """The key of a request, when it has one. Raises InvalidParameter."""
    text = headers.get(HEADER)
    if text is None:
        return None
    try:
        return UUID(text.strip())
    except ValueError:
        raise InvalidParameter(HEADER, f"must be a UUID, not {text!r:.60}") from None


def time_of(key: UUID, now: datetime) -> datetime | None:
    """The time that a UUIDv7 holds (RFC 9562, section 5.7); None for other UUIDs. Raises InvalidParameter for one
    that is more than a day ahead."""
    if key.version != 7:
        return None
    time = _EPOCH + timedelta(milliseconds=key.int >> 80)
    if time > now + AHEAD:
        raise InvalidParameter(HEADER, "is a UUIDv7 of more than 24 hours ahead")
    return max(time, EARLIEST)


def key_of_item(key: UUID, index: int) -> UUID:
    """The id of one message of a request that has several."""
    return uuid5(key, str(index))
