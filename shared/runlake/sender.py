"""The background thread of an emitter: it owns the sockets, and everything that waits does so here.

One turn of its loop: open the links that are due; send what waits, as far as the credit goes; form new batches; wait
for answers. It is not woken by `emit`, which must not make a system call: every `interval_s` it takes what is queued,
and in between it looks whether that fills a batch, after every answer and at least every 20 ms.

To one worker that stands alone there is one lane (`lane.py`), and all goes over it, in one numbering. When a worker
says that there are several, there is a lane for each of them, and each message goes to its home (`fan.py`). Which
workers there are is asked on each new link, behind the first batches, and said by every worker that is sent what is not
its own (`NotMine`). Where several entry points were told, nothing is sent before one of them has answered.

Behind its own messages it delivers the spools that other processes left behind (`adoption.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import ceil
from threading import Event
from time import monotonic, sleep

import zmq

from runlake import wire
from runlake.adoption import FIRST_BATCH, Adoption
from runlake.entrypoints import entry_points
from runlake.errors import WireError
from runlake.fan import ALONE, Fan, HomeStream, Plan
from runlake.homes import Homes
from runlake.intake import DISPLACED, QUEUE_FULL, SPOOL_FULL, UNDELIVERED, Intake
from runlake.lane import REFUSED_WAIT_S, Context, Lane, SenderOptions, room_to_connect
from runlake.notices import Notices
from runlake.outbox import SealedBatch
from runlake.sharedchain import SharedChain
from runlake.spoolreader import Reader
from runlake.spoolsegment import Segment
from runlake.stats import RejectedMessage, WorkerStats
from runlake.stream import Delivery, Direct
from runlake.stretch import Stretch
from runlake.waiter import Waiter

FIRST_CREDIT = 4
"""Batches in flight to a worker that stands alone, before its first answer says how many it allows."""
_MAX_REJECTIONS = 16
_LONGEST_WAIT_S = 0.02
_MEASURE_EVERY_S = 60.0
_ASK_AGAIN_S = 2.0
"""While a worker is away, another one is asked this often whether it is still in the list."""
_NEXT_ENTRY_S = 0.1
"""Before the next entry point is tried when one cannot even be connected to."""
_CHANGE_PAUSE_S = 0.5
"""Between one list of workers and the next that is followed."""


class Sender:
    """Moves messages from an intake to the workers. `run` is the thread's body; the counts are written by it alone."""

    def __init__(
        self,
        options: SenderOptions,
        producer: str,
        start: Stretch,
        intake: Intake,
        notices: Notices,
        adoption: Adoption | None = None,
    ) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.accepted = 0
        self.duplicates = 0
        self.rejected = 0
        self.last_rejections: tuple[RejectedMessage, ...] = ()
        self.connections = 0
        self.reconnects = 0
        self.protocol_errors = 0
        self.finished = False
        """Whether the thread has ended, or is about to without looking at the queue again."""
        self.displaced = 0
        """Messages that were given up for newer ones."""
        self.ended_at = 0
        """The position after all that was emitted before it ended."""
        self.left = 0
        """How many messages, at least, were left in the spool when it ended."""
        self.adoption = adoption
        self._options = options
        self._producer = producer
        self._intake = intake
        self._notices = notices
        self._entries = entry_points(options.endpoint) or (options.endpoint,)
        self._entry = 0
        self._plan = ALONE
        self._own: Delivery = Direct(producer, Reader(start, 1, self._let_go), list_version=ALONE.version)
        self._lanes: tuple[Lane, ...] = (self._entry_lane(),)
        self._scout: Lane | None = None
        self._waiters: deque[Waiter] = deque()
        self._ended: deque[Event] = deque()
        self._stop_at: float | None = None
        self._context: Context | None = None
        self._next_tick = 0.0
        self._measure_at = 0.0
        self._ask_at = 0.0
        self._changed_at = float("-inf")
        self._seen_full = 0

    def stop(self, deadline: float) -> None:
        """Ask the thread to end when all is acknowledged, and at `deadline` (monotonic) at the latest."""
        self._stop_at = deadline

    def wait_ended(self, timeout_s: float) -> bool:
        """Wait until the thread is done. Every caller has its own event, so that a signal handler may wait too."""
        ended = Event()
        self._ended.append(ended)
        return self.finished or ended.wait(timeout_s) or self.finished

    def run(self) -> None:
        """Work until stopped. Never raises."""
        try:
            while not self._is_over():
                try:
                    self._turn()
                except Exception as error:  # noqa: BLE001 (counted, told, and tried again: the agent must not notice)
                    self.protocol_errors += 1
                    self._notices.say("sender", f"RunLake's sender had to start over: {type(error).__name__}: {error}")
                    for lane in self._lanes:
                        lane.lose(monotonic())
        finally:
            self._end()

    def wait_for(self, waiter: Waiter) -> None:
        """Have the waiter told when all before its target is acknowledged. From any thread."""
        self._waiters.append(waiter)

    def abandon(self) -> None:
        """Let go of what is the parent's. Called in a forked child, where this sender has no thread."""
        self._own.let_go()
        if self.adoption is not None:
            self.adoption.abandon()

    @property
    def connected(self) -> bool:
        """Whether there is a connection to every worker."""
        return all(lane.connected for lane in self._lanes)

    @property
    def workers(self) -> tuple[WorkerStats, ...]:
        """How each worker's lane is doing. From any thread, and then of one moment only roughly."""
        return tuple(
            WorkerStats(
                worker="" if lane.worker is None else str(lane.worker),
                endpoint=lane.endpoint,
                connected=lane.connected,
                in_flight=0 if lane.own is None else lane.own.outbox.in_flight,
                acknowledged=lane.acknowledged,
            )
            for lane in self._lanes
        )

    def _is_over(self) -> bool:
        stop_at = self._stop_at
        return stop_at is not None and (monotonic() >= stop_at or self._own.is_settled)

    def _turn(self) -> None:
        now = monotonic()
        if now >= self._next_tick:
            self._next_tick = now + self._options.interval_s
            for lane in self._lanes:
                lane.drain = True
            self._keep_house(now)
        self._connect(now)
        links = [lane for lane in self._all_lanes() if lane.link is not None]
        for lane in links:
            for batch in lane.send(now):
                self._own_sent(lane, batch)
        self._free_waiters()
        if not links:
            retry_at = min(lane.retry_at for lane in self._all_lanes())
            sleep(max(0.0, min(self._next_tick - now, retry_at - now, _LONGEST_WAIT_S)))
            return
        self._wait(links)
        for lane in links:
            if lane.note_open():
                self.connections += 1
                self.reconnects += lane.connections > 1
            self._listen(lane)
            if lane.watch():
                self._try_another(lane)

    def _wait(self, links: list[Lane]) -> None:
        """Wait until something arrives, or is due."""
        timeout_ms = max(0, ceil(min(self._next_tick - monotonic(), _LONGEST_WAIT_S) * 1000))
        if len(links) > 1:
            poller = zmq.Poller()
            for lane in links:
                if lane.link is not None:
                    lane.link.register(poller)
            poller.poll(timeout_ms)
            timeout_ms = 0
        for lane in links:
            if lane.link is not None:
                lane.link.wait(timeout_ms)

    def _keep_house(self, now: float) -> None:
        self._tell()
        if now >= self._measure_at:
            self._measure_others()
        if self._intake.wants_room and self._options.drop_oldest:
            self._give_up(self._own.give_up_oldest())
        for lane in self._lanes:
            if not lane.is_open and isinstance(lane.own, HomeStream):
                lane.own.look_ahead()
        if not self._plan.is_alone:
            self._own.trim()
            self._ask_around(now)
        if self._intake.wants_room and self._own.is_settled:
            self._intake.begin_anew()
        self._intake.prepare(self._measure_others)
        if self._stop_at is None:
            self._adopt(now)

    def _adopt(self, now: float) -> None:
        """Go on with what others left, when a worker answers."""
        away = [lane.place for lane in self._lanes if not lane.may_send]
        if self.adoption is not None and len(away) < len(self._lanes):
            self.adoption.advance(now, away)

    def _give_up(self, messages: int) -> None:
        self.displaced += messages
        for _ in range(messages):
            self._intake.dropped[DISPLACED].add()

    def _measure_others(self) -> None:
        spool = self._intake.spool
        if spool is not None and self.adoption is not None:
            spool.others_bytes = self.adoption.others_bytes(spool.folder)
        self._measure_at = monotonic() + _MEASURE_EVERY_S

    def _let_go(self, stretch: Stretch) -> None:
        if isinstance(stretch, Segment) and self._intake.spool is not None:
            self._intake.spool.forget(stretch)
            self._intake.room_was_made()

    # The lanes

    def _entry_lane(self) -> Lane:
        return Lane(
            self._entries[self._entry], self._options, self._notices, self._own.streams[0], self.adoption,
            first_credit=min(FIRST_CREDIT, self._options.max_in_flight), asks_first=len(self._entries) > 1,
        )  # fmt: skip

    def _all_lanes(self) -> tuple[Lane, ...]:
        return self._lanes if self._scout is None else (*self._lanes, self._scout)

    def _connect(self, now: float) -> None:
        for lane in self._all_lanes():
            if lane.link is None and now >= lane.retry_at:
                if not room_to_connect(self._notices):
                    lane.lose(now)
                    return
                if self._context is None:
                    self._context = zmq.Context()
                if not lane.open(self._context, now) and self._try_another(lane):
                    lane.retry_at = min(lane.retry_at, now + _NEXT_ENTRY_S)

    def _try_another(self, lane: Lane) -> bool:
        """A link was given up: where the list is looked for, the next one goes to the next entry point, if there is
        one."""
        if len(self._entries) == 1 or not (lane is self._scout or self._plan.is_alone):
            return False
        self._entry = (self._entry + 1) % len(self._entries)
        lane.endpoint = self._entries[self._entry]
        return True

    def _ask_around(self, now: float) -> None:
        """While a worker is away, find out whether the list has changed: from another one, or over an entry point."""
        open_lanes = [lane for lane in self._lanes if lane.connected]
        if open_lanes and self._scout is not None:
            self._scout.close()
            self._scout = None
        if len(open_lanes) == len(self._lanes) or now < self._ask_at:
            return
        self._ask_at = now + _ASK_AGAIN_S
        if open_lanes:
            open_lanes[0].ask()
        elif self._scout is None:
            self._scout = Lane(self._entries[self._entry], self._options, self._notices, None, None, asks_first=True)
        elif self._scout.connected:
            self._scout.ask()

    def _follow(self, workers: wire.Workers, *, refused: bool) -> bool:
        """Take over a list of workers that is newer; whether it was. A list of one changes nothing for who has sent
        everything to one worker, unless that one has `refused` it."""
        if workers.version <= self._plan.version or not workers.members:
            return False
        if len(workers.members) == 1 and self._plan.is_alone and not refused:
            return False
        members = {member.worker: member for member in workers.members}
        self._go_over_to(Plan(workers.version, tuple(members.values())), monotonic())
        return True

    def _go_over_to(self, plan: Plan, now: float) -> None:
        """Begin anew where everything is settled, with a lane for each worker."""
        for lane in self._all_lanes():
            lane.close()
        homes = Homes(plan.workers)
        producer = f"{self._producer}/{plan.version}"
        ahead = self._own.acknowledged_ahead()
        self.acknowledged -= ahead
        self.accepted = max(0, self.accepted - ahead)
        self.sent = self.acknowledged
        if isinstance(self._own, Fan):
            given_up = self._own.begin_anew(producer, plan, homes)
        elif isinstance(self._own, Direct):
            oldest, settled, given_up = self._own.give_over()
            self._own = Fan(SharedChain(oldest, settled, homes, self._let_go), producer, plan)
            if self._intake.spool is not None:
                self._intake.spool.first = 0
        self._give_up(given_up)
        if self.adoption is not None:
            self.adoption.sort_by(plan, homes)
        self._plan, self._scout = plan, None
        lanes = tuple(
            Lane(
                member.endpoint, self._options, self._notices, self._own.streams[place], self.adoption,
                place=place, worker=member.worker,
            )
            for place, member in enumerate(plan.members)
        )  # fmt: skip
        pause = max(0.0, self._changed_at + _CHANGE_PAUSE_S - now)
        for lane in lanes:
            lane.retry_at = now + pause
        self._lanes, self._changed_at = lanes, now

    # Out

    def _own_sent(self, lane: Lane, batch: SealedBatch) -> None:
        if batch.number > lane.sent_batch:  # else it was sent before
            lane.sent_batch = batch.number
            self.sent += batch.count

    # In

    def _listen(self, lane: Lane) -> None:
        for reply in lane.receive():
            match reply:
                case wire.Ack():
                    self._take_ack(lane, reply)
                case wire.NotMine():
                    self._take_not_mine(lane, reply)
                case wire.Workers():
                    lane.answered()
                    self._follow(reply, refused=False)
                case wire.Refused(batch=int(number)):
                    self._take_refusal(lane, number, reply.reason)
                case wire.Refused():
                    if not lane.answered():  # else an older worker does not know the question
                        self._complain(reply.reason)
                        lane.lose(monotonic(), REFUSED_WAIT_S)
                        self._try_another(lane)
                case WireError():
                    self._complain(str(reply))

    def _take_ack(self, lane: Lane, ack: wire.Ack) -> None:
        lane.credit = max(1, min(self._options.max_in_flight, ack.credit))
        lane.worker = lane.worker or ack.worker
        batch = self._settle(lane, ack.batch)
        if batch is None:
            return
        if batch.number < FIRST_BATCH:
            self.accepted += ack.accepted
            self.duplicates += len(ack.duplicate)
            self.rejected += len(ack.rejected)
        self._remember(
            RejectedMessage(number=batch.first + rejection.index, reason=rejection.reason, field=rejection.field)
            for rejection in ack.rejected[-_MAX_REJECTIONS:]
        )

    def _take_refusal(self, lane: Lane, number: int, reason: str) -> None:
        batch = self._settle(lane, number)
        if batch is None:
            return
        if batch.number < FIRST_BATCH:
            self.rejected += batch.count
        self._remember((RejectedMessage(number=batch.first, reason=reason),))

    def _take_not_mine(self, lane: Lane, reply: wire.NotMine) -> None:
        lane.answered()
        if self._follow(reply.workers, refused=True):
            return
        self._notices.say(
            "not_mine",
            f"RunLake's worker at {lane.endpoint} knows version {reply.workers.version} of the list of workers, and not"
            f" {self._plan.version}, by which it was sent to; trying again",
        )
        lane.credit = 1
        lane.lose(monotonic())

    def _settle(self, lane: Lane, number: int) -> SealedBatch | None:
        batch = lane.settle(number)
        if batch is None:
            return None
        if number < FIRST_BATCH:
            self._own.trim()
            self.acknowledged += batch.count
            lane.acknowledged += batch.count
        else:
            self._adopt(monotonic())
        return batch

    def _remember(self, rejections: Iterable[RejectedMessage]) -> None:
        new = tuple(rejections)
        if new:
            self.last_rejections = (*self.last_rejections, *new)[-_MAX_REJECTIONS:]
            last = new[-1]
            self._notices.say("rejected", f"RunLake's worker refused message {last.number}: {last.reason}")

    def _complain(self, reason: str) -> None:
        self.protocol_errors += 1
        self._notices.say("protocol", f"RunLake's worker and this SDK do not understand each other: {reason}")

    # Those who wait

    def _free_waiters(self) -> None:
        """Tell those whose messages are all settled."""
        waiting = len(self._waiters)  # before looking: who comes now may wait for something newer
        if not waiting:
            return
        everything, settled = self._own.is_settled, self._own.settled
        for _ in range(waiting):
            waiter = self._waiters.popleft()
            if waiter.gave_up:
                continue
            if everything or settled >= waiter.target:
                waiter.tell(True)
            else:
                self._waiters.append(waiter)

    def _tell(self) -> None:
        full = self._intake.dropped[QUEUE_FULL].value + self._intake.dropped[SPOOL_FULL].value
        full += self._intake.dropped[DISPLACED].value
        if full > self._seen_full:
            self._seen_full = full
            where = "spool" if self._intake.spool is not None else "queue"
            self._notices.say("full", f"RunLake's {where} is full: {full} messages were dropped so far")
        self._notices.write()

    # The end

    def _end(self) -> None:
        for lane in self._all_lanes():
            lane.close()
        self.finished = True
        if self.adoption is not None:
            self.adoption.close()
        try:
            self._leave_rest()
        except Exception as error:  # noqa: BLE001 (told: what is in the spool stays there)
            self._notices.say("sender", f"RunLake's spool could not be closed: {type(error).__name__}: {error}")
        self._notices.write()
        waiters, self._waiters = self._waiters, deque()
        settled = self._own.settled
        for waiter in waiters:
            waiter.tell(not self.left and settled >= waiter.target)
        for ended in self._ended:
            ended.set()
        if self._context is not None:
            self._context.term()

    def _leave_rest(self) -> None:
        """Count what is not delivered: in memory it is lost, in the spool it is left to another process."""
        own, intake = self._own, self._intake
        home = intake.spool.detach() if intake.spool is not None else None  # who emits later finds another folder
        intake.seal()
        self.ended_at = intake.end
        settled = own.settled
        lost, self.left = own.count_rest()
        for _ in range(lost):
            intake.dropped[UNDELIVERED].add()
        if lost:
            self._notices.say("undelivered", f"RunLake's emitter was closed with {lost} messages undelivered")
        own.leave(settled, self.left == 0)
        if intake.spool is not None:
            intake.spool.first = own.next_number
            intake.spool.release(home)
