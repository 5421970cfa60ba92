"""Bearer tokens (RFC 6750), where the settings ask for them."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable

from runlake_query.dashboard.paths import SESSION, is_page
from runlake_query.problems import Problem
from runlake_query.sessions import Scope, Sessions

_READS = frozenset(("GET", "HEAD"))
_OPEN = frozenset(("/health",))
_QUERIES = frozenset(("/api/v1/sql",))
"""They come by POST, and change nothing."""


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

    `scope` says what needs a token: reads, writes or both. `read_token` is good for reads alone. A browser that has
    signed in shows its session's cookie instead.
    """

    def __init__(
        self, token: str = "", read_token: str = "", scope: str = "both", now: Callable[[], float] = time.time
    ) -> None:
        self._token = token.encode()
        self._read_token = read_token.encode()
        self._guards = {"reads": scope in ("reads", "both"), "writes": scope in ("writes", "both")}
        self._sessions = Sessions(token, now)

    @property
    def guards(self) -> bool:
        """Whether anything needs a token."""
        return bool(self._token)

    @property
    def guards_reads(self) -> bool:
        """Whether reading needs a token."""
        return bool(self._token) and self._guards["reads"]

    @property
    def guards_all(self) -> bool:
        """Whether everything that is not open to all needs a token."""
        return self.guards_reads and self._guards["writes"]

    def check(self, method: str, path: str, authorization: str | None, cookie: str | None = None) -> None:
        """Return when the request may go on. Raises Unauthorized, Forbidden. Tokens are compared in constant time.

        `cookie`: that of the session, when the request comes from a page of this process.
        """
        if not self._token or _is_open(method, path):
            return
        kind = "reads" if method in _READS or path in _QUERIES else "writes"
        if not self._guards[kind]:
            return
        if authorization is None:
            scope = self._sessions.scope(cookie) if cookie else None
            if scope is None:
                raise Unauthorized("This needs a token: send the header Authorization: Bearer <token>.")
        else:
            how, _, given = authorization.partition(" ")
            if how.lower() != "bearer" or not given.strip():
                raise Unauthorized("The Authorization header must be: Bearer <token>.", "invalid_request")
            scope = self._scope_of(given.strip())
            if scope is None:
                raise Unauthorized("The token is not the right one.", "invalid_token")
        if scope == "reads" and kind == "writes":
            raise Forbidden("This token is for reading only.")

    def begin_session(self, token: str) -> str:
        """The value of a session's cookie, for who knows a token. Raises Unauthorized."""
        scope = self._scope_of(token) if self._token else None
        if scope is None:
            raise Unauthorized("The token is not the right one.", "invalid_token")
        return self._sessions.begin(scope)

    def _scope_of(self, token: str) -> Scope | None:
        given = token.encode("utf-8", "surrogateescape")
        whole = hmac.compare_digest(given, self._token)
        reading = hmac.compare_digest(given, self._read_token) and bool(self._read_token)
        return "all" if whole else "reads" if reading else None


def _is_open(method: str, path: str) -> bool:
    """What needs no token: is it alive, and the pages, which hold no data; they ask for it, and it needs a token."""
    if path in _OPEN or path == SESSION:
        return True
    return method in _READS and is_page(path)
