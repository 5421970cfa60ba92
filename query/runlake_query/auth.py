"""Bearer tokens (RFC 6750), where the settings ask for them."""

from __future__ import annotations

import hmac

from runlake_query.problems import Problem

_READS = frozenset(("GET", "HEAD"))
_OPEN = frozenset(("/health",))


class Unauthorized(Problem):
    """401: come with a token."""

    def __init__(self, detail: str, error: str = "") -> None:
        challenge = 'Bearer realm="runlake"' + (f', error="{error}"' if error else "")
        super().__init__(401, detail, headers={"WWW-Authenticate": challenge})


class Forbidden(Problem):
    """403: this token is not for that."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            403, detail, headers={"WWW-Authenticate": 'Bearer realm="runlake", error="insufficient_scope"'}
        )


class Auth:
    """Who may do what. Without a token, anyone who can connect may do anything.

    `scope` says what needs a token: reads, writes or both. `read_token` is good for reads alone.
    """

    def __init__(self, token: str = "", read_token: str = "", scope: str = "both") -> None:
        self._token = token.encode()
        self._read_token = read_token.encode()
        self._guards = {"reads": scope in ("reads", "both"), "writes": scope in ("writes", "both")}

    def check(self, method: str, path: str, authorization: str | None) -> None:
        """Return when the request may go on. Raises Unauthorized, Forbidden. Tokens are compared in constant time."""
        if not self._token or path in _OPEN:
            return
        kind = "reads" if method in _READS else "writes"
        if not self._guards[kind]:
            return
        if authorization is None:
            raise Unauthorized("This needs a token: send the header Authorization: Bearer <token>.")
        scheme, _, given = authorization.partition(" ")
        token = given.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("The Authorization header must be: Bearer <token>.", "invalid_request")
        whole = hmac.compare_digest(token, self._token)
        reading = bool(self._read_token) and hmac.compare_digest(token, self._read_token)
        if whole or (reading and kind == "reads"):
            return
        if reading:
            raise Forbidden("This token is for reading only.")
        raise Unauthorized("The token is not the right one.", "invalid_token")
