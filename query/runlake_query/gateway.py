"""The gateway: this process as one more producer. HTTP writes become messages, and are answered after their ack.

Each message goes to its home worker (`runlake.homes`), by the list of workers that the workers themselves tell: asked
for on every connection, again and again, and told by a worker that was sent what is not its own. With one worker there
is one lane (`lane.py`), and nothing to decide.

When the list changes, what comes waits until nothing is in flight by the old list; then all that was not acknowledged
is sent anew, by the new list. So the messages of a run stay in order, whoever was, or becomes, their home.

There is no spool. A message that could not be sent in time is taken back, and its sender is told that nothing was
stored. One that was sent and not acknowledged in time may be stored or not: its sender is told so, and the batch stays
in the books, to be sent again when the worker is back, so that the producer's numbering has no gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple
from uuid import UUID

import zmq

from runlake import wire
from runlake.curve import ClientKeys
from runlake.homes import Homes, home_of
from runlake.logs import Log
from runlake_query.delivery import (
    Delivered,
    IngestUnreachable,
    OutcomeUnknown,
    Parcel,
    Waiting,
    all_delivered,
    some_delivered,
)
from runlake_query.lane import MAX_QUEUED, Lane
from runlake_query.ownwrites import OwnWrites
from runlake_query.positions import Positions
from runlake_query.problems import NotReady

ACK_TIMEOUT_S = 10.0
CONNECT_S = 2.0
"""How long a message waits for a worker that is away: it may be starting again."""
_TICK_S = 0.1
_ASK_LIST_S = 5.0
"""How often one of several workers is asked for the list."""


class WorkerSilent(NotReady):
    """Some of several workers cannot be asked for what they have: try again."""

    def __init__(self, workers: Sequence[UUID | None]) -> None:
        names = ", ".join(map(str, workers))
        super().__init__(
            f"It is not known here, and it cannot be asked now whether there is more: no answer of the ingest worker"
            f" {names}. Try again."
        )


class WorkerLink(NamedTuple):
    """A worker as this process sees it."""

    worker: UUID | None
    """None until it has said who it is."""
    connected: bool
    reason: str
    """Why it is not; empty when it is."""


class Gateway:
    """Everything here runs on the event loop. `start` and `close` it once. Times in seconds."""

    def __init__(
        self,
        endpoints: str,
        producer: str,
        log: Log,
        *,
        keys: ClientKeys | None = None,
        on_workers: Callable[[frozenset[UUID]], None] | None = None,
        timeout_s: float = ACK_TIMEOUT_S,
        connect_s: float = CONNECT_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`endpoints`: where workers are, separated by commas; one that answers is enough to know the others.
        `on_workers` is told who the workers are, where there is a list of them."""
        self.acknowledged: dict[UUID, int] = {}
        """The last position of each worker that this process was told of by an ack."""
        self.own = OwnWrites()
        self._endpoints = tuple(endpoint.strip() for endpoint in endpoints.split(","))
        self._producer = producer
        self._log = log
        self._keys = keys
        self._on_workers = on_workers
        self._timeout_s = timeout_s
        self._connect_s = connect_s
        self._clock = clock
        self._made = 0
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._lanes = [self._make_lane(self._endpoints)]
        self._homes: Homes | None = None
        """Where each message goes; None while there is one lane."""
        self._version = 0
        self._change: wire.Workers | None = None
        """The list that is to be followed once nothing is in flight."""
        self._held: list[Waiting] = []
        """What came meanwhile."""
        self._scout: Lane | None = None
        """Asks where else a worker may be, while none of the list can be reached."""
        self._ask_at = 0.0
        self._ticking: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether all workers' sockets are there. One may have gone a moment ago."""
        return all(lane.connected for lane in self._lanes)

    @property
    def workers(self) -> list[WorkerLink]:
        """Every worker, in the order of the list."""
        return [WorkerLink(lane.worker, lane.connected, "" if lane.connected else lane.reason) for lane in self._lanes]

    def start(self) -> None:
        """Connect, and keep the connections from now on."""
        self._ticking = asyncio.get_running_loop().create_task(self._tick(), name="gateway")
        self._lanes[0].turn_soon()

    async def close(self) -> None:
        """End. Who still waits is told that the outcome is unknown."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
            self._ticking = None
        self._end_scout()
        left = self._held
        for lane in self._lanes:
            lane.close()
            left += lane.take_back()
        for waiting in left:
            waiting.parcel.settle(waiting.index, OutcomeUnknown())
        self._held = []
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    async def deliver(
        self, messages: Sequence[bytes], searched: Positions | None = None, changes: UUID | None = None
    ) -> list[Delivered]:
        """Have the workers take these messages, in order; returns what became of each, once all are durable.

        `searched` goes with starts of runs: up to where the log was searched for their ids. `changes` is the run that
        they change. Nothing is sent before all their workers can be reached. Raises IngestUnreachable when none was
        sent, OutcomeUnknown when some were and no answer came in time, and PartlyStored when that is so of one worker
        and another took its part.
        """
        await self._reach_all(messages)
        return all_delivered(await self._deliver(messages, searched, changes))

    async def deliver_each(self, messages: Sequence[bytes], searched: Positions) -> list[Delivered | NotReady]:
        """The same for messages that have nothing to do with each other: in the place of one that its worker has not
        taken is the reason. Raises that when none was taken."""
        outcomes = await self._deliver(messages, searched, None)
        some_delivered(outcomes)
        return outcomes

    async def positions(self, timeout_s: float, run: UUID | None = None) -> Positions:
        """How much each worker has on its disk, asked now; without those that do not answer in time, or are away.

        `run`: only the home of this run is asked. Raises WorkerSilent when there are several workers, and one that was
        asked has not answered: nobody else knows what it has.
        """
        lanes = self._lanes
        if self._homes is not None and run is not None:
            lanes = [lane for lane in lanes if lane.worker == home_of(run.bytes, self._homes.workers)]
        told = await asyncio.gather(*(lane.position(timeout_s) for lane in lanes))
        silent = [lane.worker for lane, position in zip(lanes, told, strict=True) if position is None]
        if silent and self._homes is not None:
            raise WorkerSilent(silent)
        return {position.worker: position.durable for position in told if position is not None}

    async def _deliver(
        self, messages: Sequence[bytes], searched: Positions | None, changes: UUID | None
    ) -> list[Delivered | NotReady]:
        if not messages:
            return []
        parcel = Parcel(len(messages))
        full = [lane for lane in self._lanes if lane.full]
        for index, message in enumerate(messages):
            self._route(Waiting(message, parcel, index, searched, changes), full)
        parcel.timer = asyncio.get_running_loop().call_later(self._connect_s, self._not_yet, parcel)
        try:
            await parcel.future
            return parcel.outcomes()
        finally:  # who wrote may be gone: what becomes of these, nobody asks
            parcel.timer.cancel()

    async def _reach_all(self, messages: Sequence[bytes]) -> None:
        """Wait until all the workers are there that these messages go to, when they are several. Raises
        IngestUnreachable."""
        if self._homes is None or len(messages) < 2:
            return
        lanes = {self._homes.of_encoded(message) for message in messages}
        away = [self._lanes[place] for place in lanes if not self._lanes[place].connected]
        if not away or len(lanes) == 1:
            return
        try:
            async with asyncio.timeout(self._connect_s):
                for lane in away:
                    await lane.opened.wait()
        except TimeoutError:
            worst = next((lane for lane in away if not lane.connected), away[0])
            raise IngestUnreachable(worst.reason, self._name(worst)) from None

    def _route(self, waiting: Waiting, full: Sequence[Lane] = ()) -> None:
        if self._change is not None and len(self._held) < MAX_QUEUED:
            self._held.append(waiting)
            return
        lane = self._lanes[0] if self._homes is None else self._lanes[self._homes.of_encoded(waiting.encoded)]
        if self._change is not None or lane in full:
            waiting.parcel.settle(waiting.index, IngestUnreachable("too much waits for it", self._name(lane)))
            return
        lane.add(waiting)
        lane.send_soon()

    def _name(self, lane: Lane) -> UUID | None:
        """What a lane's worker is called where there are several."""
        return lane.worker if self._homes is not None else None

    def _not_yet(self, parcel: Parcel) -> None:
        """It has waited for as long as a connection may take."""
        for lane in self._lanes:
            if not lane.connected:
                lane.give_up_unsent(parcel, self._name(lane))
        rest = max(0.0, self._timeout_s - self._connect_s)
        parcel.timer = asyncio.get_running_loop().call_later(rest, self._too_late, parcel)

    def _too_late(self, parcel: Parcel) -> None:
        for lane in self._lanes:
            lane.give_up_unsent(parcel, self._name(lane))
        for waiting in self._held:
            if waiting.parcel is parcel:
                parcel.settle(waiting.index, IngestUnreachable("the list of workers is changing"))
        self._held = [waiting for waiting in self._held if waiting.parcel is not parcel]
        parcel.end(OutcomeUnknown())

    async def _tick(self) -> None:
        while True:
            for lane in self._lanes:
                lane.turn()
            self._look_for_the_list()
            await asyncio.sleep(_TICK_S)

    # What the lanes call

    def context(self) -> zmq.Context[zmq.Socket[bytes]]:
        """The context of all lanes. Raises zmq.ZMQError."""
        if self._context is None:
            self._context = zmq.Context()
        return self._context

    def acked(self, ack: wire.Ack, messages: Sequence[Waiting]) -> None:
        """A batch is durable: tell whose its messages were."""
        last = ack.first_seq + ack.accepted - 1
        self.acknowledged[ack.worker] = max(self.acknowledged.get(ack.worker, 0), last)
        self.own.accepted(ack.worker, ack.first_seq, ack.accepted)
        duplicate = set(ack.duplicate)
        rejected = {rejection.index: rejection for rejection in ack.rejected}
        seq = ack.first_seq
        for index, waiting in enumerate(messages):
            if index in duplicate:
                outcome = Delivered(ack.worker, last, ack.received_at, duplicate=True)
            elif index in rejected:
                refusal = rejected[index]
                outcome = Delivered(ack.worker, last, ack.received_at, reason=refusal.reason, field=refusal.field)
            else:
                before = self.own.changed(waiting.changes, ack.worker, seq) if waiting.changes is not None else 0
                outcome = Delivered(ack.worker, seq, ack.received_at, before=before)
                seq += 1
            waiting.parcel.settle(waiting.index, outcome)

    def listed(self, lane: Lane, workers: wire.Workers) -> None:
        """A worker has told the list: follow it, when it is newer than the one that is followed."""
        if not workers.version:
            if not self._version and workers.members:
                lane.worker = workers.members[0].worker
            return
        newest = self._change.version if self._change is not None else self._version
        if workers.version <= newest or not workers.members:
            return
        self._change = workers
        for one in self._lanes:
            one.held = True
            one.turn_soon()

    def at_rest(self, lane: Lane) -> None:
        """Nothing is in flight in a lane that is held: when that is so of all, follow the new list."""
        if self._change is not None and not any(one.in_flight for one in self._lanes):
            self._follow(self._change)

    # The list

    def _follow(self, workers: wire.Workers) -> None:
        self._change = None
        self._version = workers.version
        left, self._held = self._held, []
        left = [waiting for lane in self._lanes for waiting in lane.take_back()] + left
        before = {lane.endpoint: lane for lane in self._lanes}
        self._lanes = []
        version = workers.version if len(workers.members) > 1 else 0
        for member in workers.members:
            lane = before.get(member.endpoint)
            if lane is None or lane.worker not in (None, member.worker):
                lane = self._make_lane((member.endpoint,))
            else:
                del before[member.endpoint]
            lane.belongs_to(member.worker, member.endpoint, version)
            lane.held = False
            lane.turn_soon()
            self._lanes.append(lane)
        for lane in before.values():
            lane.close()
        self._end_scout()
        ids = [member.worker for member in workers.members]
        self._homes = Homes(ids) if len(ids) > 1 else None
        self._log.info("workers_listed", version=workers.version, workers=[str(worker) for worker in ids])
        if self._on_workers is not None:
            self._on_workers(frozenset(ids))
        for waiting in left:
            if not waiting.parcel.future.done():
                self._route(waiting)

    def _look_for_the_list(self) -> None:
        """Workers come and go while nothing is written here."""
        now = self._clock()
        if not self._version or now < self._ask_at:
            if self._scout is not None:
                self._scout.turn()
            return
        self._ask_at = now + _ASK_LIST_S
        connected = next((lane for lane in self._lanes if lane.connected), None)
        if connected is not None:
            connected.ask_list()
            self._end_scout()
        elif self._scout is None:
            known = {lane.endpoint for lane in self._lanes}
            others = tuple(endpoint for endpoint in self._endpoints if endpoint not in known)
            self._scout = self._make_lane(others) if others else None

    def _end_scout(self) -> None:
        scout, self._scout = self._scout, None
        if scout is not None:
            scout.close()

    def _make_lane(self, endpoints: Sequence[str]) -> Lane:
        """One more lane, with a producer and a numbering of its own."""
        producer = f"{self._producer}.{self._made}" if self._made else self._producer
        self._made += 1
        return Lane(self, endpoints, producer, self._log, timeout_s=self._timeout_s, clock=self._clock, keys=self._keys)
