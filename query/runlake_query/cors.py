"""Cross-origin requests from browsers, where the settings allow them (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

_EXPOSED = (
    "ETag, RunLake-Position, RunLake-Lag-Ms, RunLake-Next-Cursor, Idempotent-Replayed, Retry-After, WWW-Authenticate"
)
_ALLOWED = "Authorization, Content-Type, Accept, Idempotency-Key, If-None-Match, Last-Event-ID"


class Cors:
    """`origins`: `local` for every page that this machine serves, or origins separated by commas; "" for none."""

    def __init__(self, origins: str = "") -> None:
        self._local = origins == "local"
        self._origins = frozenset(part.strip() for part in origins.split(",") if part.strip())

    @property
    def any(self) -> bool:
        """Whether pages of any other origin may read answers."""
        return bool(self._origins)

    def headers(self, origin: str | None) -> dict[str, str]:
        """What an answer to a page of this origin carries."""
        if not self._origins:
            return {}
        if origin is None or not self._allows(origin):
            return {"Vary": "Origin"}
        return {"Vary": "Origin", "Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED}

    def preflight(self, request: Mapping[str, str]) -> dict[str, str] | None:
        """The headers that answer an OPTIONS request; None when it is no preflight of an allowed origin."""
        origin = request.get("Origin")
        if origin is None or "Access-Control-Request-Method" not in request or not self._allows(origin):
            return None
        return {
            **self.headers(origin),
            "Access-Control-Allow-Methods": "GET, HEAD, POST, PATCH",
            "Access-Control-Allow-Headers": _ALLOWED,
            "Access-Control-Max-Age": "600",
        }

    def _allows(self, origin: str) -> bool:
        if not self._local:
            return origin in self._origins
        try:
            parts = urlsplit(origin)
            host = parts.hostname or ""
            return parts.scheme in ("http", "https") and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
        except ValueError:
            return False
