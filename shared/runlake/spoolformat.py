"""The files of the spool, version 1.

A segment is a file of a fixed size: a header of `HEADER_BYTES`, then records without gaps, then zeros. All numbers are
little-endian.

    0   magic (8 bytes), version (2), zeros (2), size of the head (4), CRC-32 of the head (4)
    32  number of the segment's first message, as its producer counts (8); 0 while nobody knows it, and where its
        messages go to several workers, for each of which they are numbered apart
    40  settled: the offset in the file up to which the worker has acknowledged everything (8)
    64  the head: a MessagePack map (`SegmentHead`)

A record is the message's size (4), a CRC-32 (4) that begins with the size, and the message as it goes over the wire. It
is written by one copy, from its first byte to its last, into zeros: one that a kill cut short misses its end, and its
CRC-32 tells. So the CRC-32 is the commit marker, and a size of zero is the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct as Layout
from zlib import crc32

import msgspec
from msgspec import Struct

MAGIC = b"RLSPOOL\x1a"
VERSION = 1
HEADER_BYTES = 1_024
RECORD_HEAD_BYTES = 8
FIRST_AT = 32
SETTLED_AT = 40
_HEAD_AT = 64
_FIXED = Layout("<8sHHII")
NUMBER = Layout("<Q")
RECORD_HEAD = Layout("<II")
CRC_PIECE_BYTES = 4_096
MAX_SEGMENT_BYTES = 64 * 1024 * 1024
"""Far above what is ever made: whoever reads a segment has it in memory."""


class NotASegment(ValueError):  # noqa: N818 (named by what it says)
    """A file that is no segment of this version: garbage, or written by another version of RunLake."""


class SegmentHead(Struct, frozen=True, kw_only=True):
    """What a segment says of itself. `ticket` orders the segments of one producer."""

    producer: str
    endpoint: str
    ticket: int


def checksum(message: bytes) -> int:
    """The CRC-32 of a record, in pieces: zlib gives the interpreter away for more than 5 KiB at once, and then the
    caller would wait for every busy thread."""
    size = len(message)
    if size <= CRC_PIECE_BYTES:
        return crc32(message, size)
    found, view = size, memoryview(message)
    for at in range(0, size, CRC_PIECE_BYTES):
        found = crc32(view[at : at + CRC_PIECE_BYTES], found)
    return found


def encode_header(head: SegmentHead, first: int) -> bytes:
    """The header of a new segment. Raises ValueError when the producer's id and the endpoint do not fit."""
    encoded = msgspec.msgpack.encode(head)
    if _HEAD_AT + len(encoded) > HEADER_BYTES:
        raise ValueError(f"the endpoint is too long for a spool: {len(head.endpoint)} characters")
    fixed = _FIXED.pack(MAGIC, VERSION, 0, len(encoded), crc32(encoded))
    return (fixed.ljust(FIRST_AT, b"\0") + NUMBER.pack(first) + NUMBER.pack(HEADER_BYTES)).ljust(
        _HEAD_AT, b"\0"
    ) + encoded.ljust(HEADER_BYTES - _HEAD_AT, b"\0")


def decode_header(data: bytes) -> SegmentHead:
    """Read a header. Raises NotASegment, with what it is instead."""
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        raise NotASegment("it is no segment of a spool")
    _, version, _, size, expected = _FIXED.unpack_from(data)
    if version != VERSION:
        raise NotASegment(f"it is of version {version}; this RunLake reads {VERSION}")
    encoded = data[_HEAD_AT : min(_HEAD_AT + size, HEADER_BYTES)]
    if crc32(encoded) != expected:
        raise NotASegment("its header is damaged")
    try:
        return msgspec.msgpack.decode(encoded, type=SegmentHead)
    except msgspec.MsgspecError as error:
        raise NotASegment(f"its header is damaged: {error}") from None


def walk(data: bytes) -> Iterator[tuple[int, int, bool]]:
    """The records of a whole segment: where each begins and ends, and whether it is sound.

    A damaged record is passed when a sound one, or the end, follows where it says that it ends. Otherwise it is told
    as one that reaches to the end of the file, and is the last.
    """
    at, size = HEADER_BYTES, len(data)
    while (end := _end_of(data, at)) > at:
        sound = end <= size and _is_sound(data, at, end)
        if not sound and not (end <= size and ((after := _end_of(data, end)) == end or _is_sound(data, end, after))):
            end = size
        yield at, end, sound
        at = end
    if at < size and any(data[at:]):  # beyond the last record there are zeros
        yield at, size, False


def _end_of(data: bytes, at: int) -> int:
    """Where the record at `at` says that it ends; `at` itself for none."""
    if at + RECORD_HEAD_BYTES > len(data):
        return at
    length = int(RECORD_HEAD.unpack_from(data, at)[0])
    return at + RECORD_HEAD_BYTES + length if length else at


def _is_sound(data: bytes, at: int, end: int) -> bool:
    if end > len(data):
        return False
    return bool(checksum(data[at + RECORD_HEAD_BYTES : end]) == RECORD_HEAD.unpack_from(data, at)[1])
