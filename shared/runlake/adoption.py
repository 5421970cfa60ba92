"""Delivering the spools that other processes of this machine left behind.

The spools are looked for when the worker answers, and then every half a minute or so: at another moment in each
process, so that many of them do not all look at once. One at a time is taken over and sent, behind this process's own
messages, under its own producer's id and numbers, so that the worker's books hold. It is marked as it is acknowledged:
a process that dies in between leaves the rest to the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from runlake.outbox import SealedBatch
from runlake.spoolformat import NotASegment
from runlake.spoolorphans import Orphan, disk_bytes, folders, orphans
from runlake.spoolreader import Reader
from runlake.stream import Stream

LOOK_EVERY_S = 30.0
FIRST_BATCH = 2**40
"""Numbers of adopted batches begin here: on one connection, an answer names a batch by its number alone."""
_BATCHES_EACH = 2**20


class Adoption:
    """Finds the next spool to deliver. One thread uses it. `endpoint`: whose messages to take, None for everybody's."""

    def __init__(self, root: Path, endpoint: str | None, random: Random) -> None:
        self.stream: Stream | None = None
        """What is being delivered now."""
        self.spools = 0
        """How many were delivered whole."""
        self.messages = 0
        """How many of their messages the worker has answered."""
        self.lost = 0
        """How many of their records could not be read."""
        self.set_aside = 0
        """How many of their files are none that this RunLake reads, and were renamed."""
        self.unreadable: dict[str, str] = {}
        """The spools that could not be read at the last look, and why."""
        self._root = root
        self._endpoint = endpoint
        self._random = random
        self._orphan: Orphan | None = None
        self._found: Iterator[Orphan] | None = None
        self._look_at = 0.0
        self._first_batch = FIRST_BATCH

    def advance(self, now: float) -> None:
        """Finish what is delivered, and take over the next, if there is one."""
        if self.stream is not None:
            try:
                if not self.stream.is_settled:
                    return
                self.stream.reader.finish()
                self.lost += self.stream.reader.lost
                self.spools += 1
            except (NotASegment, OSError):  # it may be read another time
                pass
            self.close()
        if now < self._look_at:
            return
        if self._found is None:
            self.unreadable = {}
            self._found = orphans(self._root, self._endpoint, self._note)
        self._orphan = next(self._found, None)
        if self._orphan is None:
            self._found = None
            self._look_at = now + LOOK_EVERY_S * self._random.uniform(0.5, 1.5)
            return
        self.set_aside += self._orphan.set_aside
        try:
            reader = Reader(self._orphan.segments[0], 1, lambda _: None)
        except (NotASegment, OSError) as error:  # it may be read another time
            self._note(self._orphan.folder, error)
            self.close()
            return
        self.stream = Stream(self._orphan.producer, reader, self._first_batch)
        self._first_batch += _BATCHES_EACH

    def next_batch(self) -> SealedBatch | None:
        """The next batch of the spool that is being delivered, or None. One that cannot be read is left as it is:
        what is not marked as acknowledged is delivered another time."""
        if self.stream is None:
            return None
        try:
            return self.stream.next_batch()
        except (NotASegment, OSError) as error:
            if self._orphan is not None:
                self._note(self._orphan.folder, error)
            self.close()
            return None

    def settle(self, number: int) -> SealedBatch | None:
        """The worker has answered a batch. None when it is not in flight. Where that cannot be marked in the file, the
        rest is left to another time, and the worker finds out what it has twice."""
        batch = self.stream.outbox.settle(number) if self.stream is not None else None
        if batch is None or self.stream is None:
            return None
        self.messages += batch.count
        try:
            self.stream.trim()
        except (NotASegment, OSError):
            self.close()
        return batch

    @property
    def idle(self) -> bool:
        """Whether everything that was found was delivered."""
        return self.stream is None and self._look_at > 0

    def others_bytes(self, own: Path | None) -> int:
        """What the spools of others take on the disk."""
        return sum(disk_bytes(folder) for folder in folders(self._root) if folder != own)

    def close(self) -> None:
        """Leave what is not delivered to the next one."""
        self.stream = None
        orphan, self._orphan = self._orphan, None  # noted no more before its descriptor is another file's
        if orphan is not None:
            orphan.close()

    def _note(self, folder: Path, error: Exception) -> None:
        self.unreadable[folder.name] = str(error)

    def abandon(self) -> None:
        """Let go of the parent's locks. Called in a forked child."""
        if self._orphan is not None:
            self._orphan.abandon()
