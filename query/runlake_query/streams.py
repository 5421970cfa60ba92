"""Live: `GET /api/v1/stream`, and the events of one run as they happen. Server-sent events.

    run        a run as it is now, after a change
    event      a run event
    coalesced  what was left out because more came than a stream can tell: how many changes and events of which runs
    lost       what was left out is not known: read the list anew, and go on from here
    stale      the sign of life that a running run promised (`heartbeat_until`) has not come: `since` when
    revived    it spoke again, or ended: `status` says which. Neither has an id, nor is told again to who comes back
    position   where the stream begins
    dropped    the server ends the stream, and why; the client may come back with its Last-Event-ID

The `id` of an event is the position that it reflects; a stream is resumed after it, with `Last-Event-ID` or `?after=`.
Every run event is told, or counted in `coalesced`. One that names no run (no `run_event_id`) passes no filter of runs:
it reaches streams without one, and the stream of the run that is the latest of its `run_id`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from aiohttp import web

from runlake.fields import DIMENSIONS
from runlake_query.filters import SINGLE_FILTERS, STALE_AT, where
from runlake_query.freshness import Freshness
from runlake_query.keepalive import Keepalive
from runlake_query.lakereach import LakeAway
from runlake_query.missed import MAX_MISSED, missed
from runlake_query.parameters import Parameters
from runlake_query.points import Points
from runlake_query.positions import Positions, format_positions, parse_positions
from runlake_query.problems import InvalidParameter, NotFound, TooBusy
from runlake_query.progress import Progress
from runlake_query.reader import Reader
from runlake_query.reads import Reads, query
from runlake_query.sse import HEADERS, HEARTBEAT, farewell, frame
from runlake_query.streambatch import Filter, Selection
from runlake_query.streamframes import lost
from runlake_query.subscriber import Subscriber
from runlake_query.subscribers import Subscribers, TooMany

PARAMETERS = ("after", "type", *SINGLE_FILTERS)
REPEATABLE = DIMENSIONS
EVENT_STREAM = "text/event-stream"
LAST_EVENT_ID = "Last-Event-ID"
_HEARTBEAT_S = 10.0
_PATIENCE_S = 30.0
"""How long a slow client may take to read why it is dropped; then the connection is cut without a word."""


class Streams:
    """The handlers. On the event loop."""

    def __init__(
        self,
        subscribers: Subscribers,
        reader: Reader,
        points: Points,
        freshness: Freshness,
        progress: Progress,
        reads: Reads,
        heartbeat_s: float = _HEARTBEAT_S,
    ) -> None:
        self._subscribers = subscribers
        self._reader = reader
        self._points = points
        self._freshness = freshness
        self._progress = progress
        self._reads = reads
        self._heartbeat_s = heartbeat_s

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/v1/stream`"""
        parameters = query(request, PARAMETERS, REPEATABLE)
        condition, key = _condition(parameters)
        selection = Selection(filter_key=key, type=parameters.text("type"))
        await self._freshness.before_read({})
        return await self._serve(request, selection, condition, _since(request, parameters))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/v1/runs/{run_id}/events`: a stream for those who ask for one, else what there is."""
        if EVENT_STREAM not in request.headers.get("Accept", ""):
            return await self._reads.events(request)
        parameters, run_id = query(request, ("after", "type")), request.match_info["run_id"]
        since = _since(request, parameters)
        await self._freshness.before_read({})
        found = await self._points.by_name(run_id)
        if found.run is None and await self._freshness.before_not_found(found.positions):
            found = await self._points.by_name(run_id)
        if found.run is None:
            raise NotFound(f"Run not found: {run_id}")
        run = found.run
        latest = await self._points.by_name(run.run_id)  # events that name no run are those of the latest of its name
        loose = run.run_id if latest.run is not None and latest.run.event_id == run.event_id else None
        selection = Selection(run=run.event_id, run_id=loose, type=parameters.text("type"))
        return await self._serve(request, selection, None, since or {})

    async def _serve(
        self, request: web.Request, selection: Selection, condition: Filter | None, since: Positions | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=HEADERS)
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        try:
            subscriber = self._subscribers.add(selection, condition, self._progress.positions)
        except TooMany:
            raise TooBusy from None
        try:
            await response.prepare(request)
            with suppress(ConnectionError), Keepalive(request, subscriber, self._heartbeat_s) as keepalive:
                await self._begin(response, subscriber, condition, since)
                await self._send(request, response, subscriber, condition, keepalive)
        finally:
            self._subscribers.remove(subscriber)
        return response

    async def _begin(
        self, response: web.StreamResponse, subscriber: Subscriber, condition: Filter | None, since: Positions | None
    ) -> None:
        """Say where the stream begins, or send what was missed."""
        if since is None:
            position = format_positions(subscriber.at)
            body = msgspec.json.encode({"position": position}).decode()
            await response.write(frame("position", body, position))
            subscriber.start(subscriber.at)
            return
        await response.write(await self._missed(subscriber, condition, since) or HEARTBEAT)

    async def _missed(self, subscriber: Subscriber, condition: Filter | None, since: Positions) -> bytes:
        """What was committed after `since`; what is published from then on follows."""
        subscriber.missed = False
        try:
            frames, positions = await self._reader.read(
                lambda snapshot: (missed(snapshot, subscriber.selection, condition, since), snapshot.positions),
                with_lake=True,
            )
        except LakeAway as away:  # the stream has begun: it goes on, and says that something is missing
            positions = self._progress.positions
            frames = [lost(positions, f"what was missed cannot be read. {away.detail}")]
        if frames is None:
            frames = [lost(positions, f"more than {MAX_MISSED:,} were missed; read it anew")]
        subscriber.sent += len(frames)
        subscriber.start({**positions, **{w: max(seq, positions.get(w, 0)) for w, seq in since.items()}})
        return b"".join(item.data for item in frames)

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        subscriber: Subscriber,
        condition: Filter | None,
        keepalive: Keepalive,
    ) -> None:
        transport, loop = request.transport, asyncio.get_running_loop()
        if transport is None:
            return
        cut: list[asyncio.TimerHandle] = []
        # A client that reads nothing keeps a write waiting: when our patience is over, the connection is cut.
        subscriber.on_drop = lambda: cut.append(loop.call_later(_PATIENCE_S, transport.abort))
        try:
            await self._send_all(response, subscriber, condition, keepalive)
        finally:
            for timer in cut:
                timer.cancel()

    async def _send_all(
        self, response: web.StreamResponse, subscriber: Subscriber, condition: Filter | None, keepalive: Keepalive
    ) -> None:
        while not subscriber.dropped and not subscriber.gone:
            await subscriber.wake.wait()
            text = b""
            if subscriber.missed:
                text = await self._missed(subscriber, condition, subscriber.at)
            text += subscriber.take()
            if not text and keepalive.due():
                text = HEARTBEAT
            if text:
                await response.write(text)
                keepalive.wrote()
        if subscriber.dropped:
            await response.write(farewell(subscriber.reason))
            await response.write_eof()


def _condition(parameters: Parameters) -> tuple[Filter | None, str]:
    """The filter of a request, and its key; None when it passes everything."""
    plain = where(parameters)
    if not plain.values:
        return None, ""
    lasting = {name: value for name, value in plain.values.items() if name != STALE_AT}
    key = msgspec.json.encode([plain.sql, lasting]).decode()
    prefix = f"f{abs(hash(key)):x}_"
    prefixed = where(parameters, prefix)
    return Filter(prefixed.sql, prefixed.values), key


def _since(request: web.Request, parameters: Parameters) -> Positions | None:
    """After which positions a stream goes on; None: from now on."""
    text = request.headers.get(LAST_EVENT_ID)
    if text is None:
        return parameters.after() or None
    try:
        return parse_positions(text) if text else {}
    except ValueError:
        raise InvalidParameter(LAST_EVENT_ID, f"must be <worker>:<seq>[,…], not {text!r:.60}") from None
