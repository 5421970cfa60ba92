"""What serves the dashboard: the one page under all its paths, and the files that it loads."""

from __future__ import annotations

import asyncio
from typing import get_args

import msgspec
from aiohttp import web
from msgspec import Struct

from runlake.fields import DIMENSIONS
from runlake.messages import Status
from runlake_query.dashboard.assets import CHARTS, Assets, load_assets
from runlake_query.dashboard.paths import ASSETS, VIEWS
from runlake_query.problems import NotFound

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Config(Struct, frozen=True):
    """What the page has to know before it asks anything."""

    version: str
    token: bool
    """Whether reading needs a token."""
    dimensions: tuple[str, ...] = DIMENSIONS
    statuses: tuple[str, ...] = get_args(Status)
    sql: bool = False


class Pages:
    """The handlers. On the event loop; the files are read, once, on a thread."""

    def __init__(self, *, token: bool, sql: bool) -> None:
        self._token = token
        self._sql = sql
        self._loading: asyncio.Task[Assets] | None = None

    def add_to(self, app: web.Application) -> None:
        """Serve every path of the dashboard."""
        for path in VIEWS:
            app.router.add_get(path, self.page)
        app.router.add_get(ASSETS + "{version}/{name}", self.asset)

    async def page(self, request: web.Request) -> web.Response:
        """Any view."""
        assets = await self._assets()
        config = msgspec.json.encode(Config(assets.version, self._token, sql=self._sql)).decode()
        text = (
            assets.page.replace("{{preloads}}", _preloads(assets, charts=request.path == "/"))
            .replace("{{version}}", assets.version)
            .replace("{{config}}", config.replace("<", "\\u003c"))
        )
        headers = {"Cache-Control": "no-cache", "Content-Type": "text/html; charset=utf-8"}
        return web.Response(text=text, headers=SECURITY_HEADERS | headers)

    async def asset(self, request: web.Request) -> web.Response:
        """A file. Those of another version are those of a page from before an update: it is told to load anew."""
        assets = await self._assets()
        found = assets.get(request.match_info["name"])
        if found is None or request.match_info["version"] != assets.version:
            raise NotFound("There is no such file of the dashboard in this version; load the page anew.")
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable",
            "Content-Type": found.content_type,
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
        }
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=found.gzipped, headers=headers | {"Content-Encoding": "gzip"})
        return web.Response(body=found.body, headers=headers)

    async def _assets(self) -> Assets:
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.create_task(asyncio.to_thread(load_assets))
        return await asyncio.shield(self._loading)


def _preloads(assets: Assets, *, charts: bool) -> str:
    """All that the page will ask for, so that it is asked for at once and not one file by the other's imports."""
    links = [f'<link rel="modulepreload" href="/ui/{{{{version}}}}/{name}">' for name in assets.modules]
    if charts:
        links.append(f'<link rel="preload" as="script" href="/ui/{{{{version}}}}/{CHARTS}">')
    return "\n".join(links)
