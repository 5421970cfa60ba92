"""What a request is refused with: RFC 9457 problems, one shape for all of them.

Problem
├── InvalidParameter   400: fix the parameter that it names
├── NotFound           404
├── NotReady           503: try again after `Retry-After` seconds
├── TooBusy            429: the same
└── TooSlow            503: ask for less
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from uuid import UUID

import msgspec

CONTENT_TYPE = "application/problem+json"


class FieldError(msgspec.Struct, frozen=True):
    field: str
    message: str


class ProblemBody(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The body of every error (RFC 9457, section 3)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] = []


class Problem(Exception):  # noqa: N818 (the word of RFC 9457)
    """A request ends with this status; `detail` is a plain sentence for people."""

    def __init__(
        self, status: int, detail: str, errors: Iterable[FieldError] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        self.positions: Mapping[UUID, int] | None = None
        """What a read reflected when it found this; None for what was refused before it was read."""

    def body(self) -> bytes:
        """The problem as JSON."""
        return msgspec.json.encode(
            ProblemBody(
                type="about:blank",
                title=HTTPStatus(self.status).phrase,
                status=self.status,
                detail=self.detail,
                errors=self.errors,
            )
        )


class InvalidParameter(Problem):
    def __init__(self, name: str, message: str) -> None:
        super().__init__(400, f"{name}: {message}", [FieldError(name, message)])


class NotFound(Problem):
    def __init__(self, detail: str) -> None:
        super().__init__(404, detail)


class NotReady(Problem):
    def __init__(self, detail: str, retry_after_s: int = 1) -> None:
        super().__init__(503, detail, headers={"Retry-After": str(retry_after_s)})


class TooBusy(Problem):
    def __init__(self) -> None:
        super().__init__(
            429, "Too many requests are waiting to be answered; try again in a moment.", headers={"Retry-After": "1"}
        )


class TooSlow(Problem):
    def __init__(self, deadline_s: float) -> None:
        super().__init__(
            503,
            f"The answer took longer than {deadline_s:g} s, and was given up. Ask for less: a filter, a shorter range,"
            " fewer measures, a smaller page.",
            headers={"Retry-After": "10"},
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the nearest known one, or all of them when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {', '.join(names)}" if names else "there is none"
