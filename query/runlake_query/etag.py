"""Entity tags: a reader that has the answer already is told so (RFC 9110, sections 8.8.3 and 13.1.2)."""

from __future__ import annotations

from hashlib import blake2b

from aiohttp import web


def entity_tag(body: bytes) -> str:
    """Weak, since the same answer may come compressed."""
    return f'W/"{blake2b(body, digest_size=12).hexdigest()}"'


def matches(header: str | None, tag: str) -> bool:
    """Whether If-None-Match names this tag; by the weak comparison."""
    if header is None:
        return False
    opaque = tag.removeprefix("W/")
    return any(part.strip() == "*" or part.strip().removeprefix("W/") == opaque for part in header.split(","))


def tagged(request: web.BaseRequest, response: web.Response) -> web.Response:
    """The answer with its tag, or 304 without a body when the reader has it."""
    body = response.body
    if response.status != 200 or not isinstance(body, bytes):
        return response
    tag = entity_tag(body)
    response.headers["ETag"] = tag
    response.headers["Cache-Control"] = "no-cache"
    if not matches(request.headers.get("If-None-Match"), tag):
        return response
    kept = {name: value for name, value in response.headers.items() if name not in ("Content-Type", "Content-Length")}
    return web.Response(status=304, headers=kept)
