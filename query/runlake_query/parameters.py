"""Reading query parameters: every value is checked, and every name must be known."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, TypeVar
from zoneinfo import available_timezones

import msgspec
from msgspec import Meta

from runlake_query.positions import Positions, parse_positions
from runlake_query.problems import InvalidParameter, nearest

MAX_LIMIT = 1_000
DEFAULT_LIMIT = 100
MAX_VALUES = 1_000
"""How often a repeatable parameter may be given."""
_MAX_INTEGER = 2**63 - 1
_SPACE_FOR_PLUS = re.compile(r" (?=\d\d:?\d\d$)")

Microseconds = Annotated[int, Meta(ge=-62_135_596_800_000_000, le=253_402_300_799_999_999)]
"""A time in a cursor: microseconds since 1970, within the years that times can have."""
Number = Annotated[int, Meta(ge=0, le=_MAX_INTEGER)]
"""A `seq` or a count in a cursor."""
_Zoned = Annotated[datetime, Meta(tz=True)]
_Cursor = TypeVar("_Cursor", bound=msgspec.Struct)


class Parameters:
    """The query string of a request. Each method reads one parameter; all raise InvalidParameter."""

    def __init__(
        self,
        pairs: Iterable[tuple[str, str]],
        known: Iterable[str],
        repeatable: Iterable[str] = (),
        now: Callable[[], datetime] | None = None,
    ) -> None:
        """`now`: the clock by which runs are stale."""
        self._now = now
        self._values: dict[str, list[str]] = {}
        names, many = frozenset(known) | frozenset(repeatable), frozenset(repeatable)
        for given, value in pairs:
            name = given.removeprefix("git_") if given not in names and given.startswith("git_commit_") else given
            if name not in names:
                raise InvalidParameter(name, f"there is no such parameter here; {nearest(name, names)}")
            values = self._values.setdefault(name, [])
            values.append(value)
            if len(values) > 1 and name not in many:
                raise InvalidParameter(name, "must be given once")
            if len(values) > MAX_VALUES:
                raise InvalidParameter(name, f"must be given at most {MAX_VALUES:,} times")

    def now(self) -> datetime:
        """The time by which runs are stale."""
        if self._now is None:
            raise RuntimeError("these parameters were read without a clock")
        return self._now()

    def all(self, name: str) -> list[str]:
        """Every value of a repeatable parameter, in order."""
        return self._values.get(name, [])

    def text(self, name: str) -> str | None:
        values = self._values.get(name)
        return values[0] if values else None

    def words(self, name: str) -> list[str] | None:
        """A list separated by commas; empty for an empty value, None when it is not given."""
        text = self.text(name)
        if text is None:
            return None
        return [word.strip() for word in text.split(",") if word.strip()]

    def integer(self, name: str, default: int | None = None, low: int = 0, high: int = _MAX_INTEGER) -> int | None:
        text = self.text(name)
        if text is None:
            return default
        if re.fullmatch(r"-?[0-9]{1,19}", text) is None or not low <= int(text) <= high:
            bounds = f"from {low:,} to {high:,}" if high < _MAX_INTEGER else f"of at least {low:,}"
            raise InvalidParameter(name, f"must be a whole number {bounds}, not {text!r:.60}")
        return int(text)

    def limit(self, default: int = DEFAULT_LIMIT, high: int = MAX_LIMIT) -> int:
        return self.integer("limit", default, 1, high) or default

    def offset(self) -> int:
        return self.integer("offset", 0) or 0

    def boolean(self, name: str) -> bool | None:
        text = self.text(name)
        if text is None:
            return None
        if text not in ("true", "false"):
            raise InvalidParameter(name, f"must be true or false, not {text!r:.60}")
        return text == "true"

    def time(self, name: str) -> datetime | None:
        """An RFC 3339 time with a zone. A `+` that was not escaped has become a space; it is taken as meant."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return msgspec.convert(_SPACE_FOR_PLUS.sub("+", text), _Zoned).astimezone(UTC)
        except (msgspec.ValidationError, OverflowError):
            raise InvalidParameter(
                name, f"must be an RFC 3339 time with a zone, like 2026-01-28T10:30:00Z, not {text!r:.60}"
            ) from None

    def zone(self, name: str) -> str:
        """The name of a time zone of the IANA database; UTC when it is not given."""
        text = self.text(name) or "UTC"
        if text == "UTC":
            return text
        zones = _zones()
        if text not in zones:
            raise InvalidParameter(name, f"{text!r:.60} is no IANA time zone; {_near_zone(text, zones)}")
        return text

    def after(self) -> Positions:
        """The position that the answer must reflect at least."""
        text = self.text("after")
        if not text:
            return {}
        try:
            return parse_positions(text)
        except ValueError:
            raise InvalidParameter("after", f"must be <worker>:<seq>[,…], not {text!r:.60}") from None

    def cursor(self, kind: type[_Cursor]) -> _Cursor | None:
        """What `encode_cursor` made."""
        text = self.text("cursor")
        if text is None:
            return None
        try:
            padded = text + "=" * (-len(text) % 4)
            return msgspec.msgpack.decode(base64.b64decode(padded, b"-_", validate=True), type=kind)
        except (msgspec.DecodeError, binascii.Error, ValueError):
            raise InvalidParameter("cursor", "must be the next_cursor of an earlier answer") from None


def encode_cursor(cursor: msgspec.Struct) -> str:
    """A cursor as opaque text, safe in a URL."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).rstrip(b"=").decode("ascii")


def one_of(name: str, value: str, allowed: Mapping[str, object] | Iterable[str]) -> str:
    """The value, when it is one of those allowed. Raises InvalidParameter with the nearest one."""
    names = list(allowed)
    if value not in names:
        raise InvalidParameter(name, f"{value!r:.60} is not known; {nearest(value, names)}")
    return value


@cache
def _zones() -> frozenset[str]:
    """All names; looked up once, because that reads a few hundred files (4 ms)."""
    return frozenset(available_timezones()) - {"localtime"}  # the machine's own, which is no name of the database


def _near_zone(text: str, zones: Iterable[str]) -> str:
    hint = nearest(text, zones)
    return hint if hint.startswith("did") else "for instance Europe/Berlin or UTC"
