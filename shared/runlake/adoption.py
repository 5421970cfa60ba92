"""Delivering the spools that other processes of this machine left behind.

The spools are looked for when the worker answers, and then every half a minute or so: at another moment in each
process, so that many of them do not all look at once. One at a time is taken over and sent, behind this process's own
messages. It is marked as it is acknowledged: a process that dies in between leaves the rest to the next one. One of
which nothing is left but for a worker that is away is held, and does not keep the next from being delivered.

To one worker, it goes out under its own producer's id and numbers, so that the worker's books hold. Where there are
several, or it was meant for several, nobody knows how far each of its numberings came: it goes out under an id of its
deliverer's that is used for nothing else, numbered from 1 for each worker.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

from runlake.fan import ALONE, Fan, HomeStream, Plan
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
_MOST_HELD = 16
"""Each has a descriptor, and a batch for each worker that is away."""


class _Held:
    """A spool that is taken over, and how far its delivery is."""

    def __init__(self, orphan: Orphan, delivery: Delivery, first_batch: int) -> None:
        self.orphan = orphan
        self.delivery = delivery
        self.first_batch = first_batch
        self._done: set[int] = set()
        self._rests = False

    def is_done(self, away: Collection[int]) -> bool:
        """Whether every worker has all of it. Those that are `away` are looked after: what comes before their first
        message can be let go of."""
        for place, stream in enumerate(self.delivery.streams):
            if place not in self._done:
                if place in away and isinstance(stream, HomeStream):
                    stream.look_ahead()
                if stream.is_settled:  # for good: nobody emits into it any more
                    self._done.add(place)
        return len(self._done) == len(self.delivery.streams)

    def waits_for(self, away: Collection[int]) -> bool:
        """Whether nothing is left in it but for workers that are away. Then it gives its memory back."""
        waits = all(place in self._done or place in away for place in range(len(self.delivery.streams)))
        if waits and not self._rests and isinstance(self.delivery, Fan):
            self.delivery.rest()
        self._rests = waits
        return waits


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
        self._held: list[_Held] = []
        self._found: Iterator[Orphan] | None = None
        self._look_at = 0.0
        self._taken_over = 0

    def advance(self, now: float, away: Collection[int] = ()) -> None:
        """Finish what is delivered, and take over the next, if there is one, when what is held waits for nobody but
        the workers that are `away`."""
        for held in list(self._held):
            try:
                if not held.is_done(away):
                    continue
                held.delivery.finish()
                self.lost += held.delivery.lost
                self.spools += 1
            except (NotASegment, OSError) as error:  # it may be read another time
                self._note(held.orphan.folder, error)
            self._leave(held)
        if now < self._look_at or len(self._held) >= _MOST_HELD or not all(held.waits_for(away) for held in self._held):
            return
        if self._found is None:
            self.unreadable = {}
            self._found = orphans(self._root, self._endpoint, self._note)
        orphan = next(self._found, None)
        if orphan is None:
            self._found = None
            self._look_at = now + LOOK_EVERY_S * self._random.uniform(0.5, 1.5)
            return
        self.set_aside += orphan.set_aside
        first_batch = FIRST_BATCH + self._taken_over * _BATCHES_EACH
        self._taken_over += 1
        try:
            self._held.append(_Held(orphan, self._deliver(orphan, first_batch), first_batch))
        except (NotASegment, OSError) as error:  # it may be read another time
            self._note(orphan.folder, error)
            orphan.close()

    def sort_by(self, plan: Plan, homes: Homes) -> None:
        """From now on send by another list of workers. What is being delivered is left as it is, and found again."""
        self._plan, self._homes = plan, homes
        for held in self._held:
            with suppress(NotASegment, OSError):
                self.messages -= held.delivery.acknowledged_ahead()
        if self._held:
            self.close()
            self._found, self._look_at = None, 0.0

    def in_flight(self, place: int) -> int:
        """How many batches are on their way to a worker."""
        return sum(held.delivery.streams[place].outbox.in_flight for held in self._held)

    def next_batch(self, place: int) -> tuple[Stream, SealedBatch] | None:
        """The next batch for a worker, and the stream that it is of. A spool that cannot be read is left as it is: what
        is not marked as acknowledged is delivered another time."""
        for held in list(self._held):
            stream = held.delivery.streams[place]
            try:
                batch = stream.next_batch()
            except (NotASegment, OSError) as error:
                self._note(held.orphan.folder, error)
                self._leave(held)
                continue
            if batch is not None:
                return stream, batch
        return None

    def rewind(self, place: int) -> None:
        """Put all that was on its way to a worker back in line."""
        for held in self._held:
            held.delivery.streams[place].outbox.rewind()

    def settle(self, place: int, number: int) -> SealedBatch | None:
        """A worker has answered a batch. None when it is not in flight. Where that cannot be marked in the file, the
        rest is left to another time, and the worker finds out what it has twice."""
        for held in self._held:
            if held.first_batch <= number < held.first_batch + _BATCHES_EACH:
                batch = held.delivery.streams[place].outbox.settle(number)
                if batch is not None:
                    self.messages += batch.count
                    try:
                        held.delivery.trim()
                    except (NotASegment, OSError):
                        self._leave(held)
                return batch
        return None

    @property
    def idle(self) -> bool:
        """Whether everything that was found was delivered."""
        return not self._held and self._look_at > 0

    def others_bytes(self, own: Path | None) -> int:
        """What the spools of others take on the disk."""
        return sum(disk_bytes(folder) for folder in folders(self._root) if folder != own)

    def close(self) -> None:
        """Leave what is not delivered to the next one."""
        for held in list(self._held):
            self._leave(held)

    def abandon(self) -> None:
        """Let go of the parent's locks. Called in a forked child."""
        for held in self._held:
            held.orphan.abandon()

    def _leave(self, held: _Held) -> None:
        self._held.remove(held)  # noted no more before its descriptor is another file's
        held.orphan.close()

    def _deliver(self, orphan: Orphan, first_batch: int) -> Delivery:
        oldest = orphan.segments[0]
        if self._plan.is_alone and orphan.is_numbered:
            return Direct(orphan.producer, Reader(oldest, 1, lambda _: None), first_batch, ALONE.version)
        chain = SharedChain(oldest, oldest.base, self._homes, lambda _: None)
        return Fan(chain, f"{self._producer}/{self._plan.version}/{self._taken_over}", self._plan, first_batch)

    def _note(self, folder: Path, error: Exception) -> None:
        self.unreadable[folder.name] = str(error)
