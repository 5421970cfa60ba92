"""Delivering the spools that other processes of this machine left behind.

The spools are looked for when the worker answers, and then every half a minute or so: at another moment in each
process, so that many of them do not all look at once. One at a time is taken over and sent, behind this process's own
messages. It is marked as it is acknowledged: a process that dies in between leaves the rest to the next one.

To one worker, it goes out under its own producer's id and numbers, so that the worker's books hold. Where there are
several, or it was meant for several, nobody knows how far each of its numberings came: it goes out under an id of its
deliverer's that is used for nothing else, numbered from 1 for each worker.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

from runlake.fan import ALONE, Fan, Plan
from runlake.homes import Homes
from runlake.outbox import SealedBatch
from runlake.sharedchain import SharedChain
from runlake.spoolformat import NotASegment
from runlake.spoolorphans import Orphan, disk_bytes, folders, orphans
from runlake.spoolreader import Reader
from runlake.stream import Delivery, Direct, Stream

LOOK_EVERY_S = 30.0
FIRST_BATCH = 2**40
"""Numbers of adopted batches begin here: on one connection, an answer names a batch by its number alone."""
_BATCHES_EACH = 2**20


class Adoption:
    """Finds the next spool to deliver. One thread uses it. `endpoint`: whose messages to take, None for everybody's.
    `producer`: what the ids begin with under which it sends what has none of its own."""

    def __init__(self, root: Path, endpoint: str | None, random: Random, producer: str = "") -> None:
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
        self._producer = producer or f"adoption/{os.getpid()}/{os.urandom(8).hex()}"
        self._plan, self._homes = ALONE, Homes(())
        self._delivery: Delivery | None = None
        self._orphan: Orphan | None = None
        self._found: Iterator[Orphan] | None = None
        self._look_at = 0.0
        self._taken_over = 0

    def advance(self, now: float) -> None:
        """Finish what is delivered, and take over the next, if there is one."""
        if self._delivery is not None:
            try:
                if not self._delivery.is_settled:
                    return
                self._delivery.finish()
                self.lost += self._delivery.lost
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
            self._delivery = self._deliver(self._orphan)
        except (NotASegment, OSError) as error:  # it may be read another time
            self._note(self._orphan.folder, error)
            self.close()

    def sort_by(self, plan: Plan, homes: Homes) -> None:
        """From now on send by another list of workers. What is being delivered is left as it is, and found again."""
        self._plan, self._homes = plan, homes
        if self._delivery is not None:
            self.messages -= self._delivery.acknowledged_ahead()
            self.close()
            self._found, self._look_at = None, 0.0

    def stream(self, place: int) -> Stream | None:
        """What is being delivered now to a worker."""
        return None if self._delivery is None else self._delivery.streams[place]

    def next_batch(self, place: int) -> SealedBatch | None:
        """The next batch for a worker of the spool that is being delivered, or None. One that cannot be read is left as
        it is: what is not marked as acknowledged is delivered another time."""
        if self._delivery is None:
            return None
        try:
            return self._delivery.streams[place].next_batch()
        except (NotASegment, OSError) as error:
            if self._orphan is not None:
                self._note(self._orphan.folder, error)
            self.close()
            return None

    def settle(self, place: int, number: int) -> SealedBatch | None:
        """A worker has answered a batch. None when it is not in flight. Where that cannot be marked in the file, the
        rest is left to another time, and the worker finds out what it has twice."""
        if self._delivery is None:
            return None
        batch = self._delivery.streams[place].outbox.settle(number)
        if batch is None:
            return None
        self.messages += batch.count
        try:
            self._delivery.trim()
        except (NotASegment, OSError):
            self.close()
        return batch

    @property
    def idle(self) -> bool:
        """Whether everything that was found was delivered."""
        return self._delivery is None and self._look_at > 0

    def others_bytes(self, own: Path | None) -> int:
        """What the spools of others take on the disk."""
        return sum(disk_bytes(folder) for folder in folders(self._root) if folder != own)

    def close(self) -> None:
        """Leave what is not delivered to the next one."""
        self._delivery = None
        orphan, self._orphan = self._orphan, None  # noted no more before its descriptor is another file's
        if orphan is not None:
            orphan.close()

    def abandon(self) -> None:
        """Let go of the parent's locks. Called in a forked child."""
        if self._orphan is not None:
            self._orphan.abandon()

    def _deliver(self, orphan: Orphan) -> Delivery:
        first_batch = FIRST_BATCH + self._taken_over * _BATCHES_EACH
        self._taken_over += 1
        oldest = orphan.segments[0]
        if self._plan.is_alone and orphan.is_numbered:
            return Direct(orphan.producer, Reader(oldest, 1, lambda _: None), first_batch, ALONE.version)
        chain = SharedChain(oldest, oldest.base, self._homes, lambda _: None)
        return Fan(chain, f"{self._producer}/{self._plan.version}/{self._taken_over}", self._plan, first_batch)

    def _note(self, folder: Path, error: Exception) -> None:
        self.unreadable[folder.name] = str(error)
