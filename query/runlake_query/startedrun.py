"""The Run that a `run.started` makes by itself: what the fold of that one change shows, without asking the read model.

The rule is the fold's (`lake/fold.sql`); a test holds the two equal. Costs are not computed here: see `is_priced`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from runlake.completion import complete
from runlake.fields import RUN_FIELDS
from runlake.messages import RunStarted

_MILLISECOND = timedelta(milliseconds=1)
_PREFIXES = tuple(
    (f'{"," if number else "{"}"{field.name}":'.encode(), field.name) for number, field in enumerate(RUN_FIELDS)
)
_encoder = msgspec.json.Encoder()


def started_run(message: RunStarted, received_at: datetime) -> bytes:
    """The Run object of an accepted start, as JSON. `received_at` is the ack's."""
    whole = complete(message)
    found: dict[str, Any] = {
        name: value for name in whole.__struct_fields__ if (value := getattr(whole, name)) is not None
    }
    if whole.duration_ms is None and whole.end_time is not None and whole.end_time >= message.start_time:
        found["duration_ms"] = (whole.end_time - message.start_time) // _MILLISECOND
    found["created_at"] = found["updated_at"] = received_at
    if whole.cost_usd is not None:
        found["cost_source"] = "reported"
    parts: list[bytes] = []
    for prefix, name in _PREFIXES:
        parts.append(prefix)
        value = found.get(name)
        parts.append(b"null" if value is None else _text(value))
    parts.append(b"}")
    return b"".join(parts)


def is_priced(message: RunStarted) -> bool:
    """Whether a cost may be computed for it, by the price list: then the read model has to be asked."""
    whole = complete(message)
    tokens = (whole.input_tokens, whole.output_tokens, whole.cache_read_tokens, whole.cache_write_tokens)
    return whole.cost_usd is None and whole.model is not None and any(count is not None for count in tokens)


def _text(value: Any) -> bytes:
    if isinstance(value, datetime):
        return b'"%b"' % rfc3339(value).encode()
    if isinstance(value, Decimal):
        return f"{value:f}".encode()
    return _encoder.encode(value)


def rfc3339(time: datetime) -> str:
    """In UTC with `Z`, with a fraction only when it is not zero."""
    text = time.astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0')}Z" if time.microsecond else f"{text}Z"
