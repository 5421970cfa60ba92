"""Live: `GET /api/v1/stream`, and the events of one run as they happen. Server-sent events.

    run        a run as it is now, after a change
    event      a run event
    coalesced  what was left out because more came than a stream can tell: how many changes and events of which runs
    lost       what was left out is not known: read the list anew, and go on from here
    position   where the stream begins
    dropped    the server ends the stream, and why; the client may come back with its Last-Event-ID

The `id` of an event is the position that it reflects; a stream is resumed after it, with `Last-Event-ID` or `?after=`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from aiohttp import web

from runlake.fields import DIMENSIONS
from runlake_query.filters import SINGLE_FILTERS, where
from runlake_query.freshness import Freshness
from runlake_query.missed import MAX_MISSED, missed
from runlake_query.parameters import Parameters
from runlake_query.points import Points
from runlake_query.positions import Positions, format_positions, parse_positions
from runlake_query.problems import InvalidParameter, NotFound, TooBusy
from runlake_query.progress import Progress
from runlake_query.reader import Reader
from runlake_query.reads import Reads, query
from runlake_query.sse import HEADERS, HEARTBEAT, farewell, frame
from runlake_query.subscribers import Filter, Frame, Selection, Subscriber, Subscribers, TooMany

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
        selection = Selection(run=run.event_id, run_id=run.run_id, type=parameters.text("type"))
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
            with suppress(ConnectionError):
                await self._begin(response, subscriber, condition, since)
                await self._send(request, response, subscriber)
        finally:
            self._subscribers.remove(subscriber)
        return response

    async def _begin(
        self, response: web.StreamResponse, subscriber: Subscriber, condition: Filter | None, since: Positions | None
    ) -> None:
        """Say where the stream begins, or send what was missed."""
        if since is None:
            position = format_positions(self._progress.positions)
            body = msgspec.json.encode({"position": position}).decode()
            await response.write(frame("position", body, position))
            return

        frames, positions = await self._reader.read(
            lambda snapshot: (missed(snapshot, subscriber.selection, condition, since), snapshot.positions),
            with_lake=True,
        )
        subscriber.start_at({**positions, **{w: max(seq, positions.get(w, 0)) for w, seq in since.items()}})
        if frames is None:
            body = msgspec.json.encode({"reason": f"more than {MAX_MISSED:,} were missed; read it anew"}).decode()
            frames = [Frame(None, 0, ("", ""), "lost", frame("lost", body, format_positions(positions)))]
        await response.write(b"".join(item.data for item in frames) or HEARTBEAT)

    async def _send(self, request: web.Request, response: web.StreamResponse, subscriber: Subscriber) -> None:
        while not subscriber.dropped:
            try:
                await asyncio.wait_for(subscriber.wake.wait(), self._heartbeat_s)
            except TimeoutError:
                text = HEARTBEAT
            else:
                text = subscriber.take()
            if text and not await self._write(request, response, subscriber, text):
                return
        with suppress(TimeoutError):
            await asyncio.wait_for(response.write(farewell(subscriber.dropped)), _PATIENCE_S)
            await asyncio.wait_for(response.write_eof(), _PATIENCE_S)

    async def _write(
        self, request: web.Request, response: web.StreamResponse, subscriber: Subscriber, text: bytes
    ) -> bool:
        """Write, for as long as the client is not given up. False when it is."""
        writing = asyncio.ensure_future(response.write(text))
        while not writing.done():
            await asyncio.wait([writing], timeout=_PATIENCE_S if subscriber.dropped else 1.0)
            if not writing.done() and subscriber.dropped:
                writing.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await writing
                if request.transport is not None:
                    request.transport.abort()
                return False
        await writing
        return True


def _condition(parameters: Parameters) -> tuple[Filter | None, str]:
    """The filter of a request, and its key; None when it passes everything."""
    plain = where(parameters)
    if not plain.values:
        return None, ""
    key = msgspec.json.encode([plain.sql, plain.values]).decode()
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
