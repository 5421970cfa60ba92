"""Answers, as aiohttp sends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from runlake_query.jsontext import encode

JSON = "application/json"
NDJSON = "application/x-ndjson"
_JSON_HEADER = f"{JSON}; charset=utf-8"


def json_answer(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A body that is JSON already."""
    return web.Response(body=body, status=status, headers={"Content-Type": _JSON_HEADER, **(headers or {})})


def value_answer(value: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """A value as JSON."""
    return json_answer(encode(value), headers=headers)
