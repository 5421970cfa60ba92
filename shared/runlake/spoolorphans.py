"""Spools whose owner is gone: found by their lock, taken over, delivered as their producer would have done.

Nothing that is found there is trusted. A record that was cut short ends its segment; a damaged one is passed when the
next is sound; a file of another version, or that is none of ours, is not read. What is no file (a pipe would never
answer, a link may lead anywhere) is not opened. Files of which something could not be read are kept, renamed to `.bad`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from runlake.entrypoints import same_cluster
from runlake.spoolfolder import OWNER, SUFFIX, remove
from runlake.spoolformat import (
    FIRST_AT,
    HEADER_BYTES,
    MAX_SEGMENT_BYTES,
    NUMBER,
    RECORD_HEAD_BYTES,
    SETTLED_AT,
    NotASegment,
    SegmentHead,
    decode_header,
    walk,
)
from runlake.stretch import Piece, Sealed, Stretch

BAD = ".bad"


class FoundSegment(Stretch):
    """A segment of another process. Read as a whole when its turn comes."""

    def __init__(self, path: Path, base: int) -> None:
        """Look at its header. Raises NotASegment and OSError."""
        header, size = _read(path, HEADER_BYTES)
        super().__init__(base, base + size)
        self.sealed = True
        self.path = path
        self.head: SegmentHead = decode_header(header)
        self.damaged = 0
        """How many records could not be read."""
        self._first = int(NUMBER.unpack_from(header, FIRST_AT)[0])
        self._settled = int(NUMBER.unpack_from(header, SETTLED_AT)[0])
        self._data = b""
        self._records: list[tuple[int, int, bool]] = []
        self._ends: list[int] = []
        self._from = 0
        self._seen = False

    @property
    def is_numbered(self) -> bool:
        """Whether its producer has counted its messages."""
        return self._first > 0

    def append(self, message: bytes) -> None:
        raise Sealed

    def seal(self) -> None:
        return

    @property
    def end(self) -> int:
        return self.limit

    def waiting(self) -> list[int]:
        """The sizes of the messages that are not settled."""
        return [
            end - start - RECORD_HEAD_BYTES
            for start, end, sound in walk(_read(self.path, MAX_SEGMENT_BYTES)[0])
            if sound and end > self._settled
        ]

    def begin(self, number: int) -> int:
        self._load()
        first = self._first or number
        if not self._first:
            self._patch(FIRST_AT, number)
        return first + self._from

    def share(self) -> None:
        if self._first:
            self._first = 0
            self._patch(FIRST_AT, 0)

    def rest(self) -> None:
        self._data, self._records, self._ends = b"", [], []

    def read(self, position: int, max_messages: int, max_bytes: int) -> Piece:
        self._load()
        messages: list[bytes] = []
        size = skipped = 0
        end, at = position - self.base, self._at(position)
        while at < len(self._records) and len(messages) < max_messages:
            start, following, sound = self._records[at]
            size += following - start - RECORD_HEAD_BYTES
            if messages and (size > max_bytes or not sound):
                break
            at += 1
            end = following
            if sound:
                messages.append(self._data[start + RECORD_HEAD_BYTES : following])
            else:
                size = 0
                skipped += 1
        return Piece(messages, self.base + end, skipped)

    def holds(self, position: int) -> bool:
        self._load()
        return self._at(position) < len(self._records)

    def fills_a_batch(self, position: int) -> bool:
        return True

    def room_of(self, message: bytes) -> int:
        return RECORD_HEAD_BYTES + len(message)

    def settle(self, position: int) -> None:
        self._patch(SETTLED_AT, position - self.base)

    def discard(self) -> None:
        if self.damaged:
            set_aside(self.path)
        elif self._seen:  # else nobody has seen what is in it
            self.path.unlink(missing_ok=True)
        self.rest()

    def _load(self) -> None:
        if self._ends:
            return
        self._data, _ = _read(self.path, MAX_SEGMENT_BYTES)
        self._records = list(walk(self._data))
        self._ends = [end for _, end, _ in self._records] or [0]
        self._from = sum(end <= self._settled for _, end, _ in self._records)
        self.damaged = sum(not sound for _, end, sound in self._records if end > self._settled)
        self._seen = True

    def _at(self, position: int) -> int:
        """Which record is the next at a position."""
        return max(self._from, bisect_right(self._ends, position - self.base))

    def _patch(self, at: int, number: int) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, NUMBER.pack(number), at)
        finally:
            os.close(descriptor)


class Orphan:
    """A spool without an owner, locked by this process until `close`."""

    def __init__(self, folder: Path, descriptor: int) -> None:
        self.folder = folder
        self.set_aside = 0
        """How many files were renamed, as they cannot be read."""
        self._descriptor = descriptor
        self.segments = self._find_segments()

    @property
    def producer(self) -> str:
        """Who emitted what is in it; empty when nothing is."""
        return self.segments[0].head.producer if self.segments else ""

    @property
    def is_numbered(self) -> bool:
        """Whether it can go on in its producer's own numbers."""
        return bool(self.segments) and self.segments[0].is_numbered

    @property
    def endpoint(self) -> str:
        """Where that was to go."""
        return self.segments[0].head.endpoint if self.segments else ""

    def close(self) -> None:
        """Give it up: removed when nothing of ours is left in it, else anybody's again."""
        remove(self.folder)
        os.close(self._descriptor)

    def abandon(self) -> None:
        """Let go of the parent's lock. Called in a forked child."""
        with suppress(OSError):
            os.close(self._descriptor)

    def remove(self) -> None:
        """Delete it with all that is in it."""
        for path in list(self.folder.iterdir()):
            if path.name != OWNER:
                path.unlink()

    def _find_segments(self) -> list[FoundSegment]:
        found: list[FoundSegment] = []
        base = 0
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            try:
                segment = FoundSegment(path, base)
                if found and segment.head.producer != found[0].head.producer:
                    raise NotASegment("it is another producer's")
            except NotASegment:
                if _is_blank(path):
                    path.unlink(missing_ok=True)
                else:
                    self.set_aside += 1
                    set_aside(path)
                continue
            if found:
                found[-1].link(segment)
            found.append(segment)
            base = segment.limit
        return found


class SpoolFacts(Struct, frozen=True, kw_only=True):
    """What `ls` says of one spool."""

    folder: Path
    owned: bool
    producer: str = ""
    endpoint: str = ""
    messages: int = 0
    bytes: int = 0
    bad_files: int = 0


def folders(root: Path) -> list[Path]:
    """All spools below `root`, the oldest first; [] when it cannot be read."""
    found: list[tuple[int, str]] = []
    try:
        entries = list(os.scandir(root))
    except OSError:
        return []
    for entry in entries:
        with suppress(FileNotFoundError):  # delivered meanwhile
            if entry.is_dir(follow_symlinks=False):
                found.append((entry.stat().st_mtime_ns, entry.path))
    return [Path(path) for _, path in sorted(found) if not os.path.basename(path).startswith(".")]  # noqa: PTH119


def adopt(folder: Path) -> Orphan | None:
    """Take a spool over, or None when it has an owner, or is gone. Raises OSError when it cannot be read."""
    # A thread may have begun a segment while its process gave the folder up, and the lock with it.
    create = os.O_CREAT if any(folder.glob(f"*{SUFFIX}")) else 0
    try:
        descriptor = os.open(folder / OWNER, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | create, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:  # else it was removed after it was opened
            return Orphan(folder, descriptor)
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def orphans(
    root: Path, endpoint: str | None, on_unreadable: Callable[[Path, OSError], object] = lambda *_: None
) -> Iterator[Orphan]:
    """Take over, one by one, the spools below `root` with messages for `endpoint` (None: for any); who gets one closes
    it. Those without messages are removed on the way; those that cannot be read are told to `on_unreadable`."""
    for folder in folders(root):
        try:
            orphan = adopt(folder)
        except FileNotFoundError:  # delivered meanwhile
            continue
        except OSError as error:
            on_unreadable(folder, error)
            continue
        if orphan is None:
            continue
        if orphan.segments and (endpoint is None or same_cluster(endpoint, orphan.endpoint)):
            yield orphan
        else:
            orphan.close()


def facts(folder: Path) -> SpoolFacts:
    """Look at a spool without changing it."""
    files = sorted(folder.glob(f"*{SUFFIX}"))
    waiting: list[int] = []
    head: SegmentHead | None = None
    bad = sum(1 for _ in folder.glob(f"*{BAD}*"))
    for path in files:
        try:
            segment = FoundSegment(path, 0)
            waiting += segment.waiting()
        except FileNotFoundError:  # delivered meanwhile
            continue
        except (NotASegment, OSError):
            bad += 1
            continue
        head = head or segment.head
    return SpoolFacts(
        folder=folder,
        owned=_is_owned(folder),
        producer=head.producer if head else "",
        endpoint=head.endpoint if head else "",
        messages=len(waiting),
        bytes=sum(waiting),
        bad_files=bad,
    )


def disk_bytes(folder: Path) -> int:
    """What a spool takes on the disk."""
    size = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # delivered meanwhile
                size += entry.stat(follow_symlinks=False).st_size
    return size


def set_aside(path: Path) -> None:
    """Rename a file that cannot be read, so that nobody tries again."""
    with suppress(OSError):
        path.rename(path.with_name(f"{path.name}{BAD}"))


def _is_owned(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / OWNER, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_blank(path: Path) -> bool:
    """Whether a file holds nothing yet: its process was killed while it made it."""
    try:
        return not _read(path, MAX_SEGMENT_BYTES)[0].strip(b"\0")
    except (NotASegment, OSError):
        return False


def _read(path: Path, most_bytes: int) -> tuple[bytes, int]:
    """What a file begins with, and its size. Raises NotASegment for what is no file or too large, and OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise NotASegment("it is no file") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotASegment("it is no file")
        if status.st_size > MAX_SEGMENT_BYTES:
            raise NotASegment(f"it is too large: {status.st_size:,} bytes")
        return os.pread(descriptor, most_bytes, 0), status.st_size
    finally:
        os.close(descriptor)
