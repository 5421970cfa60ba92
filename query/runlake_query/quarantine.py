"""One refused message, and sending it again once it is mended. The handlers, on the event loop.

The quarantine is a log: what was sent again stays in it until it expires, and sending it twice makes a duplicate.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
from aiohttp import web
from msgspec import Struct

from runlake import wire
from runlake.errors import InvalidMessage
from runlake.messages import Message
from runlake_query.answers import JSON, json_answer
from runlake_query.bodies import InvalidBody, encode
from runlake_query.books import RefusedMessage, find_refused
from runlake_query.etag import tagged
from runlake_query.freshness import Freshness
from runlake_query.gateway import Gateway
from runlake_query.positions import Positions, format_positions
from runlake_query.progress import Progress
from runlake_query.reader import Reader
from runlake_query.reads import AFTER, query
from runlake_query.writes import UnsupportedMediaType

_ABSENT = msgspec.Raw(b"null")


class _Body(Struct):
    message: msgspec.Raw = _ABSENT


_body_decoder = msgspec.json.Decoder(_Body)
_message_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


class Quarantine:
    """The handlers."""

    def __init__(
        self,
        reader: Reader,
        freshness: Freshness,
        progress: Progress,
        gateway: Gateway,
        utcnow: Callable[[], datetime],
    ) -> None:
        self._reader = reader
        self._freshness = freshness
        self._progress = progress
        self._gateway = gateway
        self._utcnow = utcnow

    async def show(self, request: web.Request) -> web.Response:
        """`GET /api/v1/quarantine/{id}`"""
        parameters = query(request, AFTER)
        await self._freshness.before_read(parameters.after())
        found, positions = await self._find(request)
        headers = {"RunLake-Position": format_positions(positions), "RunLake-Lag-Ms": str(self._progress.lag_ms())}
        return tagged(request, json_answer(found.shown.encode(), headers=headers))

    async def resubmit(self, request: web.Request) -> web.Response:
        """`POST /api/v1/quarantine/{id}/resubmit`"""
        query(request)
        kind = request.content_type
        if "Content-Type" not in request.headers or not (kind == JSON or kind.endswith("+json")):
            raise UnsupportedMediaType(request.headers.get("Content-Type", ""))
        try:
            body = _body_decoder.decode(await request.read())
        except wire.UNREADABLE as error:
            raise InvalidBody(f"The body cannot be read: {error}") from None
        await self._freshness.before_read({})
        found, _ = await self._find(request)
        now = self._utcnow()
        given = bytes(body.message)
        messages = _as_sent(found.raw) if given == b"null" else [_mended(given)]
        outcomes = await self._gateway.deliver([encode(message, now) for message in messages])
        refused = next((outcome for outcome in outcomes if outcome.reason), None)
        if refused is not None:
            raise InvalidBody(refused.reason, refused.field)
        duplicate = sum(outcome.duplicate for outcome in outcomes)
        last: dict[str, int] = {}
        for outcome in outcomes:
            last[str(outcome.worker)] = max(last.get(str(outcome.worker), 0), outcome.seq)
        position = ",".join(f"{worker}:{seq}" for worker, seq in last.items())
        told = {"accepted": len(outcomes) - duplicate, "duplicate": duplicate, "position": position}
        return json_answer(msgspec.json.encode(told), headers={"RunLake-Position": position})

    async def _find(self, request: web.Request) -> tuple[RefusedMessage, Positions]:
        identity = request.match_info["id"]
        return await self._reader.read(
            lambda snapshot: (find_refused(snapshot, identity), snapshot.positions), with_lake=True
        )


def _mended(body: bytes) -> Message:
    """A message in JSON, with the names of its fields as on the wire. Raises InvalidBody."""
    try:
        return _message_decoder.decode(body)
    except wire.UNREADABLE as error:
        wrong = wire.invalid_message(error)
        raise InvalidBody(wrong.reason, wrong.field) from None


def _as_sent(raw: bytes) -> list[Message]:
    """What came, as this process reads it: a message, or all of a payload. Raises InvalidBody."""
    try:
        try:
            parts = wire.split_payload(raw)
        except InvalidMessage:
            parts = [raw]
        return [wire.decode_message(part) for part in parts]
    except InvalidMessage as error:
        raise InvalidBody(error.reason, error.field) from None
