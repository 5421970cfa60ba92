"""The feed: what a worker has just journaled, published to whoever listens (PUB → SUB).

Best effort by design: a listener that misses something sees the gap in the positions, and reads the lake instead. Each
message has a topic, a header in MessagePack, and for `log` the journal's own lines (NDJSON, one message a line):

    [b"log",  FeedGroup, lines]     a group is durable
    [b"beat", Position]             how far the worker is; at least every HEARTBEAT_S
"""

from __future__ import annotations

from uuid import UUID

import msgspec
from msgspec import Struct

from runlake.errors import WireError
from runlake.wire import Position, decode_reply, encode_frame

TOPIC_LOG = b"log"
TOPIC_BEAT = b"beat"
HEARTBEAT_S = 0.5


class FeedGroup(Struct, frozen=True, kw_only=True, tag_field="type", tag="group", gc=False):
    """Positions `first_seq` to `last_seq` of a worker follow; none when `last_seq` is less than `first_seq`.

    `segment` is the journal segment that they are in: the lake takes whole segments, and says which it has.
    """

    lake: UUID
    worker: UUID
    segment: int
    first_seq: int
    last_seq: int
    flushed: int


_group_decoder = msgspec.msgpack.Decoder(FeedGroup)
_encoder = msgspec.msgpack.Encoder()


def encode_group(group: FeedGroup, lines: bytes) -> list[bytes]:
    """The frames of a durable group."""
    return [TOPIC_LOG, _encoder.encode(group), lines]


def encode_beat(position: Position) -> list[bytes]:
    """The frames of a heartbeat."""
    return [TOPIC_BEAT, encode_frame(position)]


def decode_feed(frames: list[bytes]) -> tuple[FeedGroup, bytes] | Position:
    """Read a message of the feed. Raises WireError when it is none."""
    match frames:
        case [topic, header, lines] if topic == TOPIC_LOG:
            try:
                return _group_decoder.decode(header), lines
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise WireError(f"The feed's header cannot be read: {error}") from None
        case [topic, beat] if topic == TOPIC_BEAT:
            reply = decode_reply(beat)
            if isinstance(reply, Position):
                return reply
    raise WireError("This is no message of the feed")
