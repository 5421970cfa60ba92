"""The shape of a route: what serves it, and what the OpenAPI document says of it. One table is both."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from msgspec import Struct

from runlake_query.answers import JSON

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_SEGMENT = re.compile(r"\{(\w+)\}")


class Answer(Struct, frozen=True):
    """A successful answer: its types by content type (None for text without a schema), and an example."""

    description: str
    content: Mapping[str, Any]
    example: Any = None


class Route(Struct, frozen=True, kw_only=True):
    """One method at one path. `path` names its parameters in braces; each stands for one segment, URL-encoded."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, Answer]
    parameters: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: Any = None
    body_example: Any = None
    problems: tuple[int, ...] = ()
    """Besides 400 and, where a token is asked for, 401 and 403."""
    tagged: bool = False
    """Whether it has an ETag, and answers 304 to who has it."""
    by_event_id: bool = False
    """Whether its run is named by event_id alone."""
    open: bool = False
    """Whether it needs no token."""

    @property
    def pattern(self) -> str:
        """The path for aiohttp: a segment may hold anything, braces too."""
        return _SEGMENT.sub(r"{\1:[^/]+}", self.path)


def answer(description: str, kind: Any, example: Any = None) -> Answer:
    """An answer in JSON."""
    return Answer(description, {JSON: kind}, example)
