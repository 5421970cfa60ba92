"""The spans of the feed that were applied since the last checkpoint: a query process that was killed has them again.

The read model itself is written at checkpoints only (`checkpoints.py`). What the lake has by then is read from there;
what a worker had not flushed yet is here: one write per span and no fsync, which is enough when a process dies. After a
loss of power the lake has all of it a flush later. A record: its length (4 bytes), then MessagePack with a CRC-32.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import msgspec
from msgspec import Struct

MAX_BYTES = 256 * 1024 * 1024
"""More is not kept: it comes from the lake."""
_LENGTH_BYTES = 4


class LoggedSpan(Struct, frozen=True, array_like=True, gc=False):
    """What `Applier.apply_feed` takes, and of which lake it is."""

    lake: UUID
    worker: UUID
    segment: int
    upto: int
    crc: int
    lines: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(LoggedSpan)


class FeedLog:
    """One file, of one thread."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = os.fstat(self._file).st_size
        self._stopped = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it, not even half a record."""
        return self._size == 0

    def append(self, lake: UUID, worker: UUID, segment: int, upto: int, lines: bytes) -> None:
        """Keep a span that was committed. After one that could not be kept, none is until `clear`: what is kept has no
        gap. Raises OSError for the first that cannot be written."""
        if self._stopped:
            return
        record = _encoder.encode(LoggedSpan(lake, worker, segment, upto, zlib.crc32(lines), lines))
        framed = len(record).to_bytes(_LENGTH_BYTES, "big") + record
        self._stopped = self._size + len(framed) > self._max_bytes
        if self._stopped:
            return
        try:
            written = os.write(self._file, framed)
        except OSError:
            self._stopped = True
            raise
        self._size += written
        if written < len(framed):
            self._stopped = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def spans(self) -> Iterator[LoggedSpan]:
        """What is kept, in order, up to the first record that is not whole."""
        with self._path.open("rb") as file:
            while len(head := file.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
                try:
                    span = _decoder.decode(file.read(int.from_bytes(head, "big")))
                except msgspec.DecodeError:
                    return
                if zlib.crc32(span.lines) != span.crc:
                    return
                yield span

    def clear(self) -> None:
        """All of it is in the read model's file, or is nobody's any more. Raises OSError."""
        os.ftruncate(self._file, 0)
        self._size = 0
        self._stopped = False

    def close(self) -> None:
        os.close(self._file)
