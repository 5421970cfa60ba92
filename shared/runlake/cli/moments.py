"""Times on the command line: `7d` ago, a date, or a full time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from runlake.cli.failure import USAGE, CommandFailed

_AGO = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, now: datetime) -> datetime:
    """The time that `text` means: `90s`, `15m`, `24h`, `7d`, `2w` before `now`, or a date or time of RFC 3339 (UTC
    when it names no zone). Raises CommandFailed."""
    found = _AGO.fullmatch(text)
    try:
        if found:
            return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
        parsed = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise CommandFailed(
            f"{text!r} is no time; write 90s, 15m, 24h, 7d or 2w (ago), a date like 2026-01-28, or a time like"
            " 2026-01-28T10:30:00Z.",
            USAGE,
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def rfc3339(when: datetime) -> str:
    """A time as the API takes it."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")
