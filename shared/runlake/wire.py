"""The wire, version 1: the frames that an agent and a worker exchange.

DEALER → ROUTER, acknowledged. A request is `[header, payload]`, a control request `[header]`, a reply one frame; a
reader takes the frames it knows and refuses more. Header and reply are MessagePack maps tagged on `type`; the payload
is one MessagePack array of messages (`messages.py`).

PUSH → PULL, fire and forget. One frame: the payload alone.

Several workers: `workers?` asks for the list of them, and each message goes to its home by it (`homes.py`), over a
connection and in a numbering of its own for each worker. A batch that is sent to another than the home of each of its
messages, or by another version of the list, is answered with `not_mine`, and nothing of it is taken.

Unknown fields are ignored on both sides. A breaking change raises `WIRE_VERSION`, and a worker refuses a version that
it does not speak with a `Refused` that says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, get_args
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from runlake.cut import cut_array
from runlake.errors import InvalidMessage, WireError
from runlake.messages import Message, ZonedTime

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
    searched: Annotated[dict[str, int], Meta(max_length=1_000)] | UnsetType = UNSET
    """By worker, up to which position the producer has looked for the event_ids of its `run.started`, whatever their
    time, and found none: then the worker looks behind that. Who sends copies with one time says nothing here."""
    received_at: ZonedTime | UnsetType = UNSET
    """When these messages were first received: who replays a log says it, and so makes the same log again."""
    list_version: Annotated[int, Meta(ge=0, le=2**63 - 1)] | UnsetType = UNSET
    """The version of the list of workers by which these messages were sent here; 0: by none. A worker with several in
    its list takes none that was sent by another version, so that what it takes of a producer's numbers has no gap."""


class PositionRequest(Struct, frozen=True, kw_only=True, tag_field="type", tag="position?", gc=False):
    """Ask a worker how far it is."""

    version: int = WIRE_VERSION


class FlushRequest(Struct, frozen=True, kw_only=True, tag_field="type", tag="flush", gc=False):
    """Ask a worker to flush to the lake all that it had accepted when this arrived; answered when that is done."""

    version: int = WIRE_VERSION


class WorkersRequest(Struct, frozen=True, kw_only=True, tag_field="type", tag="workers?", gc=False):
    """Ask a worker which workers there are."""

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


class Member(Struct, frozen=True, kw_only=True, gc=False):
    """A worker, and where producers reach it."""

    worker: UUID
    endpoint: str


class Workers(Struct, frozen=True, kw_only=True, tag_field="type", tag="workers"):
    """The list of workers. Each change raises `version`; 0 is a worker that stands alone. With several members, each
    message goes to its home (`homes.py`)."""

    version: int
    members: list[Member]


class NotMine(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="not_mine"):
    """Nothing of the batch was taken, nor journaled: some of its messages are other workers', or it was sent by another
    version of the list. Send each message to its home by this list."""

    workers: Workers
    batch: int | None = None


class Refused(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="refused", gc=False):
    """A request that is not of this protocol. `batch` names the batch when it could be read."""

    reason: str
    batch: int | None = None


Request = Batch | PositionRequest | FlushRequest | WorkersRequest
Reply = Ack | Position | Workers | NotMine | Refused


class _AnyVersion(Struct):
    """The one field that headers of every version have."""

    version: int


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for bytes that are not what it reads; text that is not UTF-8 has an error of its own."""
_MAX_REASON_CHARS = 300
"""A reason quotes what was sent, and travels in acks, logs and quarantine: it does not grow with it."""

_encoder = msgspec.msgpack.Encoder()
_version_decoder = msgspec.msgpack.Decoder(_AnyVersion)
_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)
_payload_decoder: msgspec.msgpack.Decoder[list[Message]] = msgspec.msgpack.Decoder(list[Message])
_raw_payload_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
_message_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_fields_decoder = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_FIELD_NAMES = frozenset(name for kind in get_args(Message) for name in kind.__struct_fields__)


def encode_message(message: Message) -> bytes:
    """One message as MessagePack. Raises TypeError for a value that MessagePack cannot hold: an object, a number beyond
    64 bits, text with lone surrogates, a map that holds itself."""
    try:
        return _encoder.encode(message)
    except (OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise TypeError(f"The message cannot be encoded: {error}") from None


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


def payload_count(payload: bytes) -> int:
    """How many messages a payload says that it holds, read off its head alone. Raises InvalidMessage when it is no
    MessagePack array, or says more than a batch may hold: what follows is then not worth reading."""
    head = payload[:1]
    if b"\x90" <= head <= b"\x9f":
        count = head[0] & 0x0F
    elif head == b"\xdc" and len(payload) >= 3:
        count = int.from_bytes(payload[1:3], "big")
    elif head == b"\xdd" and len(payload) >= 5:
        count = int.from_bytes(payload[1:5], "big")
    else:
        raise InvalidMessage("The payload is not a MessagePack array of messages")
    if count > MAX_BATCH_MESSAGES:
        raise InvalidMessage(f"The payload holds {count:,} messages; allowed are {MAX_BATCH_MESSAGES}")
    return count


def encode_frame(frame: Request | Reply) -> bytes:
    """A header or a reply as MessagePack."""
    return _encoder.encode(frame)


def decode_request(frame: bytes) -> Request:
    """Read a header. Raises WireError when it is none, or of a version that is not spoken here."""
    try:
        request = _request_decoder.decode(frame)
    except UNREADABLE as error:
        _check_version(_version_of(frame))
        raise WireError(_short(f"The header cannot be read: {error}")) from None
    _check_version(request.version)
    return request


def decode_reply(frame: bytes) -> Reply:
    """Read a reply. Raises WireError when it is none."""
    try:
        return _reply_decoder.decode(frame)
    except UNREADABLE as error:
        raise WireError(_short(f"The reply cannot be read: {error}")) from None


def decode_payload(payload: bytes) -> list[Message]:
    """Read a payload all of whose messages have the right types and bounds; the quick way. Raises InvalidMessage."""
    try:
        return _payload_decoder.decode(payload)
    except UNREADABLE as error:
        raise invalid_message(error) from None


def split_payload(payload: bytes) -> list[bytes]:
    """Cut a payload into its messages without reading them. Raises InvalidMessage when it is not one whole array."""
    try:
        return [bytes(raw) for raw in _raw_payload_decoder.decode(payload)]
    except RecursionError:  # one message is nested too deeply; its neighbours are not to suffer for it
        return _split_deep(payload)
    except UNREADABLE as error:
        raise InvalidMessage(_short(f"The payload is not a MessagePack array of messages: {error}")) from None


def _split_deep(payload: bytes) -> list[bytes]:
    try:
        return cut_array(payload)
    except ValueError as error:
        raise InvalidMessage(f"The payload is not a MessagePack array of messages: {error}") from None


def decode_message(raw: bytes) -> Message:
    """Read one message. Raises InvalidMessage, which names the field at fault."""
    try:
        return _message_decoder.decode(raw)
    except UNREADABLE as error:
        raise invalid_message(error, raw) from None


def _version_of(frame: bytes) -> int:
    """The version of a header that cannot be read, since it is of another one, or just broken."""
    try:
        return _version_decoder.decode(frame).version
    except UNREADABLE:
        return WIRE_VERSION


def _check_version(version: int) -> None:
    if version != WIRE_VERSION:
        raise WireError(f"Wire version {version} is not spoken here; this side speaks {WIRE_VERSION}")


def _short(reason: str) -> str:
    return reason if len(reason) <= _MAX_REASON_CHARS else f"{reason[: _MAX_REASON_CHARS - 1]}…"


_PATH = re.compile(r" - at (?P<key>`key` in )?`\$(?:\[\d+\]|\[\.\.\.\])?(?:\.(?P<field>\w+))?[^`]*`$")
_MISSING = re.compile(r"Object missing required field `(?P<field>\w+)`")


def invalid_message(error: Exception, raw: bytes = b"") -> InvalidMessage:
    """Turn msgspec's words into a reason that names the field; where they name none, look for it in `raw`."""
    if isinstance(error, RecursionError):
        return _at_fault(raw, "is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return _at_fault(raw, "holds text that is not UTF-8")
    text = str(error)
    found = _PATH.search(text)
    field = found["field"] if found else None
    says = text[: found.start()] if found else text
    missing = _MISSING.fullmatch(says)
    if missing:
        return InvalidMessage(f"{missing['field']}: is required", missing["field"])
    if found and field and found["key"]:
        return InvalidMessage(f"{field}: keys must be strings", field)
    if field:
        return InvalidMessage(_short(f"{field}: {says[:1].lower()}{says[1:]}"), field)
    return _at_fault(raw, _short(f"cannot be read: {says}"))


def _at_fault(raw: bytes, reason: str) -> InvalidMessage:
    """The reason, with the first field that cannot be read by itself; a field that is not ours is not looked at."""
    try:
        fields = _fields_decoder.decode(raw)
    except UNREADABLE:
        return InvalidMessage(f"The message {reason}")
    for name, value in fields.items():
        if name in _FIELD_NAMES:
            try:
                msgspec.msgpack.decode(value)
            except UNREADABLE:
                return InvalidMessage(f"{name}: {reason}", name)
    return InvalidMessage(f"The message {reason}")
