"""The wire, version 1: the frames that an agent and a worker exchange.

DEALER → ROUTER, acknowledged. A request is `[header, payload]`, a control request `[header]`, a reply one frame; a
reader takes the frames it knows and refuses more. Header and reply are MessagePack maps tagged on `type`; the payload
is one MessagePack array of messages (`messages.py`).

PUSH → PULL, fire and forget. One frame: the payload alone.

Unknown fields are ignored on both sides. A breaking change raises `WIRE_VERSION`, and a worker refuses a version that
it does not speak with a `Refused` that says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from runlake.errors import InvalidMessage, WireError
from runlake.messages import Message

WIRE_VERSION = 1
MAX_BATCH_MESSAGES = 500
MAX_BATCH_BYTES = 256 * 1024
MAX_MESSAGE_BYTES = 1024 * 1024
"""One encoded message; a larger one is refused."""
MAX_FRAME_BYTES = 4 * 1024 * 1024
"""A frame larger than this is not read: the worker's sockets drop the peer (ZMQ_MAXMSGSIZE)."""

_Number = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_Producer = Annotated[str, Meta(min_length=1, max_length=256)]


class Batch(Struct, frozen=True, kw_only=True, tag_field="type", tag="batch", gc=False):
    """The header of a batch. `first` is the producer's own number of its first message; numbers rise by one."""

    producer: _Producer
    batch: _Number
    first: _Number
    count: Annotated[int, Meta(ge=1, le=MAX_BATCH_MESSAGES)]
    version: int = WIRE_VERSION


class PositionRequest(Struct, frozen=True, kw_only=True, tag_field="type", tag="position?", gc=False):
    """Ask a worker how far it is."""

    version: int = WIRE_VERSION


class FlushRequest(Struct, frozen=True, kw_only=True, tag_field="type", tag="flush", gc=False):
    """Ask a worker to flush to the lake all that it had accepted when this arrived; answered when that is done."""

    version: int = WIRE_VERSION


class Rejection(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Why the message at `index` of a batch was refused."""

    index: int
    reason: str
    field: str | None = None


class Ack(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="ack", gc=False):
    """A batch is durable. Messages that are neither `duplicate` nor `rejected` were accepted, in order, with the
    consecutive positions from `first_seq`. `credit` is how many batches the producer may have in flight."""

    batch: int
    worker: UUID
    first_seq: int
    accepted: int
    received_at: datetime
    credit: int
    duplicate: list[int] = []
    rejected: list[Rejection] = []


class Position(Struct, frozen=True, kw_only=True, tag_field="type", tag="position", gc=False):
    """How far a worker is: `accepted` ≥ `durable` ≥ `flushed`, each the `seq` of the last message there."""

    lake: UUID
    worker: UUID
    accepted: int
    durable: int
    flushed: int


class Refused(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="refused", gc=False):
    """A request that is not of this protocol. `batch` names the batch when it could be read."""

    reason: str
    batch: int | None = None


Request = Batch | PositionRequest | FlushRequest
Reply = Ack | Position | Refused

_encoder = msgspec.msgpack.Encoder()
_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_payload_decoder: msgspec.msgpack.Decoder[list[Message]] = msgspec.msgpack.Decoder(list[Message])
_raw_payload_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
_message_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    """One message as MessagePack. Raises TypeError for a value in a free-form map that MessagePack cannot hold."""
    return _encoder.encode(message)


def encode_payload(messages: Sequence[bytes]) -> bytes:
    """Join encoded messages into one payload: a MessagePack array of them."""
    count = len(messages)
    if count < 16:
        head = bytes((0x90 | count,))
    elif count < 65_536:
        head = b"\xdc" + count.to_bytes(2, "big")
    else:
        raise ValueError(f"a payload holds at most 65,535 messages, not {count}")
    return head + b"".join(messages)


def encode_frame(frame: Request | Reply) -> bytes:
    """A header or a reply as MessagePack."""
    return _encoder.encode(frame)


def decode_request(frame: bytes) -> Request:
    """Read a header. Raises WireError when it is none, or of a version that is not spoken here."""
    try:
        request = _request_decoder.decode(frame)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WireError(f"The header cannot be read: {error}") from None
    if request.version != WIRE_VERSION:
        raise WireError(f"Wire version {request.version} is not spoken here; this side speaks {WIRE_VERSION}")
    return request


def decode_reply(frame: bytes) -> Reply:
    """Read a reply. Raises WireError when it is none."""
    try:
        return _reply_decoder.decode(frame)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WireError(f"The reply cannot be read: {error}") from None


def decode_payload(payload: bytes) -> list[Message]:
    """Read a payload all of whose messages have the right types and bounds; the quick way. Raises InvalidMessage."""
    try:
        return _payload_decoder.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(error) from None


def split_payload(payload: bytes) -> list[bytes]:
    """Cut a payload into its messages without reading them. Raises InvalidMessage when it is not one whole array."""
    try:
        return [bytes(raw) for raw in _raw_payload_decoder.decode(payload)]
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidMessage(f"The payload is not a MessagePack array of messages: {error}") from None


def decode_message(raw: bytes) -> Message:
    """Read one message. Raises InvalidMessage, which names the field at fault."""
    try:
        return _message_decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(error) from None


_PATH = re.compile(r" - at `\$(?:\[\d+\]|\[\.\.\.\])?(?:\.(?P<field>\w+))?[^`]*`$")
_MISSING = re.compile(r"missing required field `(?P<field>\w+)`")


def _invalid(error: Exception) -> InvalidMessage:
    """Turn msgspec's words into a reason that names the field."""
    text = str(error)
    if isinstance(error, RecursionError):
        return InvalidMessage("The message is nested too deeply")
    found = _PATH.search(text)
    field = found["field"] if found else None
    says = text[: found.start()] if found else text
    missing = _MISSING.search(text)
    if missing:
        return InvalidMessage(f"{missing['field']}: is required", missing["field"])
    if field:
        return InvalidMessage(f"{field}: {says[:1].lower()}{says[1:]}", field)
    return InvalidMessage(f"The message cannot be read: {says}")
