"""Signing in from a browser: the token once, then a cookie that scripts cannot read and other sites cannot use.

The cookie is `<expires>.<scope>.<mac>`, the MAC an HMAC-SHA256 (RFC 2104) under the token that guards this process. So
it holds no token, every query process with the same token takes it, and another token ends all sessions at once.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Literal

COOKIE = "runlake_session"
LIFETIME_S = 30 * 24 * 3600
Scope = Literal["all", "reads"]


class Sessions:
    """Makes cookies and tells what they are good for. `now`: seconds since the epoch."""

    def __init__(self, token: str, now: Callable[[], float]) -> None:
        self._key = token.encode()
        self._now = now

    def begin(self, scope: Scope) -> str:
        """A cookie's value, good for LIFETIME_S."""
        said = f"{int(self._now()) + LIFETIME_S}.{scope}"
        return f"{said}.{self._mac(said)}"

    def scope(self, cookie: str) -> Scope | None:
        """What this cookie allows; None when it is not ours, or too old. Compared in constant time."""
        said, _, mac = cookie.rpartition(".")
        if not self._key or not hmac.compare_digest(mac.encode("utf-8", "surrogateescape"), self._mac(said).encode()):
            return None
        expires, _, scope = said.partition(".")
        if int(expires) <= self._now():
            return None
        return "all" if scope == "all" else "reads"

    def _mac(self, said: str) -> str:
        return hmac.new(self._key, f"runlake session {said}".encode("utf-8", "surrogateescape"), sha256).hexdigest()
