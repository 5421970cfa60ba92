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
_Shown = msgspec.defstruct("_Shown", [(field.name, Any, None) for field in RUN_FIELDS], frozen=True, gc=False)
"""A Run object as it is encoded: every field, in the order of the API, `null` where unset."""
_encoder = msgspec.json.Encoder()


class StartedRun:
    """What one start makes; completed once for all that is asked of it."""

    __slots__ = ("_start_time", "_whole")

    def __init__(self, message: RunStarted) -> None:
        self._whole = complete(message)
        self._start_time = message.start_time

    @property
    def is_priced(self) -> bool:
        """Whether a cost may be computed for it, by the price list: then the read model has to be asked."""
        whole = self._whole
        if whole.cost_usd is not None or whole.model is None:
            return False
        tokens = (whole.input_tokens, whole.output_tokens, whole.cache_read_tokens, whole.cache_write_tokens)
        return any(count is not None for count in tokens)

    def shown(self, received_at: datetime) -> bytes:
        """The Run object of the accepted start, as JSON. `received_at` is the ack's."""
        found: dict[str, Any] = {
            name: as_shown(value) for name, value in msgspec.structs.asdict(self._whole).items() if value is not None
        }
        ended = self._whole.end_time
        if ended is not None and ended >= self._start_time and "duration_ms" not in found:
            found["duration_ms"] = (ended - self._start_time) // _MILLISECOND
        found["created_at"] = found["updated_at"] = as_shown(received_at)
        if "cost_usd" in found:
            found["cost_source"] = "reported"
        return _encoder.encode(_Shown(**found))


def as_shown(value: Any) -> Any:
    """What the encoder is given for a value of a field: it writes every digit of a fraction, and numbers as texts."""
    if isinstance(value, datetime):
        if value.tzinfo is UTC and (value.microsecond % 10 or not value.microsecond):
            return value
        return rfc3339(value)
    if isinstance(value, Decimal):
        return msgspec.Raw(f"{value:f}".encode())
    return value


def rfc3339(time: datetime) -> str:
    """In UTC with `Z`, with a fraction only when it is not zero."""
    text = time.astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0')}Z" if time.microsecond else f"{text}Z"
