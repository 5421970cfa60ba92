"""The HTTP side: its parts, wired together, and the routes that they serve."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from runlake.ids import Uuid7Source
from runlake.logs import Log
from runlake_query.answers import json_answer
from runlake_query.auth import Auth
from runlake_query.bodies import MAX_BODY_BYTES
from runlake_query.bulk import Bulk
from runlake_query.cors import Cors
from runlake_query.dashboard.pages import Pages
from runlake_query.dashboard.signin import SignIn
from runlake_query.edge import Edge
from runlake_query.etag import tagged
from runlake_query.freshness import AFTER_TIMEOUT_S, Freshness
from runlake_query.gateway import Gateway
from runlake_query.hosts import Hosts
from runlake_query.inventory import Inventory
from runlake_query.inventoryroutes import inventory_routes
from runlake_query.lineage import Lineage
from runlake_query.lineageroutes import lineage_routes
from runlake_query.metricspage import Metrics
from runlake_query.openapi import openapi
from runlake_query.points import Points
from runlake_query.progress import Progress
from runlake_query.promises import Promises
from runlake_query.quarantine import Quarantine
from runlake_query.quarantineroutes import quarantine_routes
from runlake_query.reader import Reader
from runlake_query.reads import Reads, query
from runlake_query.routetable import route_table
from runlake_query.staleclock import STALE_CLOCK, StaleClock
from runlake_query.stalewatch import StaleWatch
from runlake_query.status import Status
from runlake_query.streammetrics import StreamMetrics
from runlake_query.streams import Streams
from runlake_query.subscribers import Subscribers
from runlake_query.writes import Writes


class Server:
    """The handlers of one process; `app` is what aiohttp serves."""

    def __init__(
        self,
        reader: Reader,
        points: Points,
        progress: Progress,
        gateway: Gateway,
        log: Log,
        utcnow: Callable[[], datetime],
        *,
        subscribers: Subscribers,
        promises: Promises,
        stale_clock: StaleClock,
        bulk: Bulk,
        auth: Auth,
        hosts: Hosts,
        cors: Cors,
        after_timeout_s: float = AFTER_TIMEOUT_S,
    ) -> None:
        freshness = Freshness(progress, gateway, log, after_timeout_s)
        metrics = Metrics(progress, gateway)
        reads = Reads(reader, points, freshness, progress, utcnow)
        writes = Writes(gateway, points, freshness, progress, reader, Uuid7Source(), utcnow)
        status = Status(progress, gateway, freshness, metrics, reads)
        self._subscribers = subscribers
        metrics.add(StreamMetrics(subscribers))
        self._stale_clock = stale_clock
        self._stale_watch = StaleWatch(promises, stale_clock.now, reader, subscribers, log)
        streams = Streams(subscribers, reader, points, freshness, progress, reads)
        self._exports = bulk.exports(freshness, progress, log)
        self._sql = bulk.sql_service(freshness, progress, gateway, log)
        self.routes = route_table(reads, writes, status, streams, self._exports, self._sql)
        self.routes += quarantine_routes(Quarantine(reader, freshness, progress, gateway, utcnow))
        self.routes += lineage_routes(Lineage(reader, freshness, progress))
        self.routes += inventory_routes(Inventory(reader, freshness, progress))
        self._pages = Pages(token=auth.guards_reads, sql=bulk.sql)
        self._sign_in = SignIn(auth)
        self._cross_origin = cors.any
        self._edge = Edge(auth, hosts, cors, metrics, progress, log)

    def app(self) -> web.Application:
        """The application: every route of this process."""
        app = web.Application(middlewares=[self._edge.middleware], client_max_size=MAX_BODY_BYTES)
        app[STALE_CLOCK] = self._stale_clock
        for route in self.routes:
            app.router.add_route(route.method, route.pattern, route.handler)
            if route.method == "GET":
                app.router.add_route("HEAD", route.pattern, route.handler)
        document = openapi(self.routes)

        async def serve_document(request: web.Request) -> web.Response:
            query(request)
            return tagged(request, json_answer(document))

        app.router.add_get("/openapi.json", serve_document)
        self._pages.add_to(app)
        self._sign_in.add_to(app)

        async def begin(_: web.Application) -> None:
            self._subscribers.start()
            self._stale_watch.start()
            self._exports.start()
            self._sql.start()

        async def end(_: web.Application) -> None:
            await self._stale_watch.stop()
            self._subscribers.close()

        async def clean_up(_: web.Application) -> None:
            await self._sql.close()

        if self._cross_origin:
            app.on_response_prepare.append(self._edge.allow_origin)
        app.on_startup.append(begin)
        app.on_shutdown.append(end)
        app.on_cleanup.append(clean_up)
        return app
