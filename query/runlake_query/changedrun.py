"""The Run that a `run.updated` makes of a Run: what the fold of one change more shows, without asking the read model.

The rule is the fold's (`lake/fold.sql`); a test holds the two equal. Where the object alone does not tell what the fold
would, nothing is said: a commit is one thing of several fields, costs follow a price list, and of a duration one cannot
see whether somebody set it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Raw

from runlake.completion import complete
from runlake.messages import RunUpdated
from runlake_query.startedrun import as_shown

_MILLISECOND = timedelta(milliseconds=1)
_OWN = frozenset(("event_id", "run_event_id", "ts"))
"""Of the message, not of the run."""
_NOT_TOLD = frozenset(
    (
        *("commit_hash", "commit_source", "commit_author", "commit_timestamp"),
        *("model", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd"),
    )
)
_NULL = b"null"
_fields_decoder = msgspec.json.Decoder(dict[str, Raw])
_time_decoder = msgspec.json.Decoder(datetime)
_encoder = msgspec.json.Encoder()


def changed_run(body: bytes, message: RunUpdated, received_at: datetime) -> bytes | None:
    """The Run object `body` after an accepted change, the only one since; None where that cannot be told from it.
    `received_at` is the ack's."""
    change: dict[str, Any] = {
        name: value
        for name, value in msgspec.structs.asdict(complete(message)).items()
        if value is not None and name not in _OWN
    }
    if not change.keys().isdisjoint(_NOT_TOLD):
        return None
    run = _fields_decoder.decode(body)
    if _time_decoder.decode(run["updated_at"]) > received_at:
        return None
    ended = change.get("end_time")
    if ended is not None and "duration_ms" not in change:
        if bytes(run["duration_ms"]) == _NULL:
            started = _time_decoder.decode(run["start_time"])
            if ended >= started:
                change["duration_ms"] = (ended.astimezone(UTC) - started) // _MILLISECOND
        elif bytes(run["end_time"]) != _NULL:
            return None
    change["updated_at"] = received_at
    for name, value in change.items():
        run[name] = Raw(_encoder.encode(as_shown(value)))
    return _encoder.encode(run)
