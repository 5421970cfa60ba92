"""A segment of this process's own spool: a preallocated file, mapped into memory.

Appending is one call of `mmap.write`, which copies the record and moves on without letting any other thread run: it
needs no lock, makes no system call, and is whole for everybody but a `kill -9` in the middle of it. The room is
allocated when the file is made, so that a full disk shows there, and never as SIGBUS.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from runlake.spoolformat import (
    CRC_PIECE_BYTES,
    FIRST_AT,
    HEADER_BYTES,
    NUMBER,
    RECORD_HEAD,
    RECORD_HEAD_BYTES,
    SETTLED_AT,
    SegmentHead,
    checksum,
    encode_header,
)
from runlake.stretch import Piece, Sealed, Stretch

_BATCH_BYTES = 128 * 1024
"""Several hundred messages of the usual size: what is not counted until it is read."""

_pack = RECORD_HEAD.pack


class Segment(Stretch):
    """Appended to by any thread, read and trimmed by the sender's."""

    def __init__(self, path: Path, head: SegmentHead, base: int, size: int, first: int = 0) -> None:
        """Make the file. Raises OSError when the disk has no room or may not be written."""
        super().__init__(base, base + size)
        self.path = path
        self.size = size
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            self._map = mmap.mmap(descriptor, size)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        self._map.write(encode_header(head, first))
        self._write = self._map.write

    def append(self, message: bytes) -> None:
        size = len(message)
        try:  # `crc32` here and not in `checksum` is a call less for nearly every message
            self._write(_pack(size, crc32(message, size) if size <= CRC_PIECE_BYTES else checksum(message)) + message)
        except ValueError:
            raise Sealed from None

    def seal(self) -> None:
        with suppress(ValueError):  # closed
            self._map.seek(self.size)
        self.sealed = True

    @property
    def end(self) -> int:
        try:
            return self.base + self._map.tell()
        except ValueError:  # closed
            return self.limit

    def is_half_full(self) -> bool:
        """Whether it is time to have the next one ready."""
        return (self.end - self.base) * 2 > self.size

    def read(self, position: int, max_messages: int, max_bytes: int) -> Piece:
        start, stop = position - self.base, self.end - self.base
        start = max(start, HEADER_BYTES)
        messages: list[bytes] = []
        if start + RECORD_HEAD_BYTES <= stop:
            first = RECORD_HEAD.unpack_from(self._map, start)[0]
            window = RECORD_HEAD_BYTES + max(first, max_bytes + max_messages * RECORD_HEAD_BYTES)
            chunk = self._map[start : min(stop, start + window)]
            at, size, unpack = 0, 0, RECORD_HEAD.unpack_from
            while len(messages) < max_messages and at + RECORD_HEAD_BYTES <= len(chunk):
                length = unpack(chunk, at)[0]
                size += length
                following = at + RECORD_HEAD_BYTES + length
                if not length or following > len(chunk) or (messages and size > max_bytes):
                    break
                messages.append(chunk[at + RECORD_HEAD_BYTES : following])
                at = following
            start += at
        return Piece(messages, self.base + start)

    def holds(self, position: int) -> bool:
        start = max(position - self.base, HEADER_BYTES)
        if start + RECORD_HEAD_BYTES > self.end - self.base:
            return False
        return bool(RECORD_HEAD.unpack_from(self._map, start)[0])

    def fills_a_batch(self, position: int) -> bool:
        return self.end - position >= _BATCH_BYTES

    def begin(self, number: int) -> int:
        NUMBER.pack_into(self._map, FIRST_AT, number)
        return number

    def share(self) -> None:
        with suppress(ValueError):  # closed
            NUMBER.pack_into(self._map, FIRST_AT, 0)

    def room_of(self, message: bytes) -> int:
        return RECORD_HEAD_BYTES + len(message)

    def settle(self, position: int) -> None:
        NUMBER.pack_into(self._map, SETTLED_AT, position - self.base)

    def discard(self) -> None:
        self.seal()
        self.path.unlink(missing_ok=True)
        self.let_go()

    def let_go(self) -> None:
        """Unmap it, and leave the file."""
        with suppress(BufferError, ValueError):
            self._map.close()

    def shorten(self, position: int) -> None:
        """Give back the room after `position`; the segment is sealed, and the reader was there last."""
        with suppress(FileNotFoundError):  # somebody deleted it
            os.truncate(self.path, max(HEADER_BYTES, position - self.base))
