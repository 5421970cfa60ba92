"""gzip, for those who ask for it."""

from __future__ import annotations

import gzip

from aiohttp import web

_MIN_BYTES = 1_024
_LEVEL = 4


def accepts_gzip(header: str | None) -> bool:
    """Whether an Accept-Encoding header (RFC 9110, section 12.5.3) takes gzip."""
    if not header:
        return False
    quality = {}
    for part in header.split(","):
        name, _, parameters = part.strip().partition(";")
        weight = parameters.replace(" ", "").removeprefix("q=") or "1"
        quality[name.strip().lower()] = weight
    found = quality.get("gzip", quality.get("x-gzip", quality.get("*", "0")))
    try:
        return float(found) > 0
    except ValueError:
        return False


def compress(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Compress an answer that is whole and large enough to gain by it. Small ones are not worth the time."""
    if type(response) is not web.Response or not isinstance(response.body, bytes) or len(response.body) < _MIN_BYTES:
        return
    if "Content-Encoding" in response.headers:
        return
    response.headers.add("Vary", "Accept-Encoding")
    if accepts_gzip(request.headers.get("Accept-Encoding")):
        response.body = gzip.compress(response.body, _LEVEL, mtime=0)
        response.headers["Content-Encoding"] = "gzip"
