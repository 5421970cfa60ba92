"""The journal: what is acknowledged is here first.

Constraints. A line must survive `kill -9` and power loss from the moment its batch is acknowledged; a crash may tear
the last write anywhere; DuckDB reads a segment as it is.

Format. A segment `<number>.ndjson` is a sequence of groups. A group is a run of lines (`lines.py`) and one `group` line
that says whose they are, counts them, and ends with the CRC-32 of every byte of the group before it. A group is written
with one `write` and made durable with one `fdatasync`; a new segment's folder is fsynced too.

Order of operations. write group → fdatasync → (first group: fsync folder) → acknowledge. Numbers of segments rise; a
segment is sealed (closed for good), flushed whole to the lake, and removed.

Recovery (`recovery.py`). A group counts when it is whole and its checksum holds. In the newest segment what follows the
last good group was never acknowledged: it is cut off and kept aside. After a failed fsync the page cache may hold what
the disk does not, so the newest segment is written anew before it is trusted. Damage anywhere else is corruption: the
damaged file is kept aside, its good groups go on.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import msgspec
from msgspec import Struct

from runlake.lake.durability import sync_folder
from runlake_ingest.crashpoints import CrashPoints

FORMAT = 1
SUFFIX = ".ndjson"
_GROUP_PREFIX = b'{"kind":"group"'
_CHECKSUM = b',"crc32":'
_encoder = msgspec.json.Encoder()


class Group(Struct, frozen=True, kw_only=True, tag_field="kind", tag="group"):
    """The last line of a group. It holds the accepted messages `first_seq` to `last_seq` (none when `last_seq` is
    less)."""

    format: int = FORMAT
    lake: UUID
    worker: UUID
    segment: int
    first_seq: int
    last_seq: int
    lines: int
    bytes: int


_group_decoder = msgspec.json.Decoder(Group)


class Segment(Struct, frozen=True, kw_only=True):
    """A sealed segment, ready for the lake. `messages` counts the accepted ones that it holds."""

    path: Path
    worker: UUID
    number: int
    first_seq: int
    last_seq: int
    messages: int
    size: int


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:012d}{SUFFIX}"


def segment_files(folder: Path) -> list[Path]:
    """The segments of a journal, oldest first."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit())


class SegmentWriter:
    """Writes one segment. Not thread-safe: the journal thread's alone. Every method may raise OSError, after which the
    segment must not be written again."""

    def __init__(self, folder: Path, lake: UUID, worker: UUID, number: int, first_seq: int, crash: CrashPoints) -> None:
        self.path = segment_path(folder, number)
        self._folder = folder
        self._lake = lake
        self._worker = worker
        self._number = number
        self._first_seq = first_seq
        self._last_seq = first_seq - 1
        self._size = 0
        self._crash = crash
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write_group(self, lines: Sequence[bytes], last_seq: int) -> int:
        """Append a group and make it durable; returns its size. Each of `lines` ends with a newline."""
        body = b"".join(lines)
        tail = Group(
            lake=self._lake, worker=self._worker, segment=self._number, first_seq=self._last_seq + 1, last_seq=last_seq,
            lines=len(lines), bytes=len(body),
        )  # fmt: skip
        first = self._size == 0
        content = body + _encoder.encode(tail)[:-1]
        content += b"%b%d}\n" % (_CHECKSUM, zlib.crc32(content))
        self._crash.passing("journal.before_write")
        self._write(content)
        self._crash.passing("journal.after_write")
        os.fdatasync(self._descriptor)
        if first:
            sync_folder(self._folder)
        self._crash.passing("journal.after_sync")
        self._last_seq = last_seq
        return len(content)

    def seal(self) -> Segment:
        """Close the segment for good."""
        self.close()
        return Segment(
            path=self.path, worker=self._worker, number=self._number, first_seq=self._first_seq,
            last_seq=self._last_seq, messages=self._last_seq - self._first_seq + 1, size=self._size,
        )  # fmt: skip

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]


class Scan(Struct, frozen=True):
    """What a segment file holds: its good groups, each with the offsets where it begins and ends, and the file's
    size."""

    groups: list[tuple[Group, int, int]]
    size: int

    @property
    def good_end(self) -> int:
        """The offset after the last good group."""
        return self.groups[-1][2] if self.groups else 0

    @property
    def torn(self) -> bool:
        """Something follows the last good group."""
        return self.good_end != self.size

    @property
    def broken(self) -> bool:
        """Something that is no good group stands before one that is: no crash does that."""
        ends = [0, *(end for _, _, end in self.groups)]
        return any(begin != end for (_, begin, _), end in zip(self.groups, ends, strict=False))


def scan_segment(path: Path) -> Scan:
    """Read a segment and check every group in it. Raises OSError."""
    with path.open("rb") as file:
        groups = list(_good_groups(file))
        return Scan(groups, file.seek(0, os.SEEK_END))


def _good_groups(file: BinaryIO) -> Iterator[tuple[Group, int, int]]:
    """A group is found by its last line, which says how long it is; so damage to one costs no other."""
    end = good_end = 0
    for line in file:
        end += len(line)
        group = _read_group(line)
        if group is None:
            continue
        begin = end - len(line) - group.bytes
        if group.bytes > 0 and begin >= good_end and _holds(group, os.pread(file.fileno(), group.bytes, begin), line):
            yield group, begin, end
            good_end = end


def _read_group(line: bytes) -> Group | None:
    if not line.startswith(_GROUP_PREFIX):
        return None
    try:
        group = _group_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return group if group.format == FORMAT else None


def _holds(group: Group, body: bytes, line: bytes) -> bool:
    """Whether the checksum in the group's line is that of all before it, and the body is what the line counts."""
    said, _, checksum = line.rpartition(_CHECKSUM)
    return (
        checksum == b"%d}\n" % zlib.crc32(said, zlib.crc32(body))
        and group.bytes == len(body)
        and group.lines == body.count(b"\n")
    )
