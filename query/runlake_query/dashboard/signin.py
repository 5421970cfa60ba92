"""`POST /session` and `DELETE /session`: how the dashboard signs in and out."""

from __future__ import annotations

import msgspec
from aiohttp import web
from msgspec import Struct

from runlake_query.auth import Auth
from runlake_query.dashboard.paths import SESSION
from runlake_query.problems import Problem
from runlake_query.sessions import COOKIE, LIFETIME_S


class Token(Struct, frozen=True):
    """What who signs in has to say."""

    token: str


class SignIn:
    """The handlers. On the event loop."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._decode = msgspec.json.Decoder(Token).decode

    def add_to(self, app: web.Application) -> None:
        """Serve both."""
        app.router.add_post(SESSION, self.begin)
        app.router.add_delete(SESSION, self.end)

    async def begin(self, request: web.Request) -> web.Response:
        """204 with the cookie. 401 for a wrong token."""
        try:
            given = self._decode(await request.read())
        except msgspec.MsgspecError:
            raise Problem(400, 'The body must be {"token": "…"}.') from None
        response = web.Response(status=204)
        secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
        response.set_cookie(
            COOKIE,
            self._auth.begin_session(given.token),
            max_age=LIFETIME_S,
            path="/",
            httponly=True,
            samesite="Strict",
            secure=secure or None,
        )
        return response

    async def end(self, request: web.Request) -> web.Response:
        """204, and the browser forgets the cookie."""
        response = web.Response(status=204)
        response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
        return response
