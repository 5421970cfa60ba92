"""The emitter: what an agent hands its messages to, and never hears from again.

`emit` encodes on the caller's thread (so that later changes to a payload do not show), appends to the spool, and
returns: no lock, no system call, no exception. From then on the message outlives the process. One daemon thread
(`sender.py`) does everything else. It is started by the first message, which therefore takes longer, as does the making
of the emitter itself (it loads pyzmq, about 20 ms).

A forked child starts empty: its copy of the emitter gets a new spool, a new producer id and, with its first message, a
thread of its own; what the parent had waiting is the parent's to send.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from random import Random
from time import monotonic
from typing import Any
from uuid import UUID
from weakref import ref

from runlake.adoption import Adoption
from runlake.briefmessages import BriefEnd, BriefEvent, BriefMessage, BriefStart
from runlake.curve import client_keys
from runlake.entrypoints import bound_to
from runlake.ids import Uuid7Source
from runlake.inheritedlocks import close_inherited_locks
from runlake.intake import (
    FAILED,
    NOT_A_MESSAGE,
    NOT_ENCODABLE,
    REASONS,
    REFUSED_REASONS,
    UNDELIVERED,
    Intake,
)
from runlake.interruption import pass_on
from runlake.lane import SenderOptions
from runlake.messages import CommitAssociated, Message, RunEvent, RunStarted, RunUpdated
from runlake.notices import Notices
from runlake.plain import PlainEncoder
from runlake.sender import Sender
from runlake.spoolfolder import SpoolFolder
from runlake.spoollocation import DROP_OLDEST, SpoolOptions, spool_options
from runlake.stats import Stats
from runlake.stretch import Start
from runlake.waiter import Waiter

ENDPOINT_VARIABLE = "RUNLAKE_INGEST"
DEFAULT_ENDPOINT = "tcp://127.0.0.1:8766"
Mark = tuple[Sender, int]
_MESSAGES = (RunEvent, RunUpdated, RunStarted, CommitAssociated)
_KINDS = frozenset((*_MESSAGES, BriefStart, BriefEvent, BriefEnd))
"""Looked up first: asking a class that is not the message's costs as much as encoding."""


class Emitter:
    """Delivers messages to an ingest worker, in order, until the worker says that they are on its disk.

    `endpoint`: the worker's acknowledged socket, `tcp://host:port` or `ipc://path`; by default the variable
    `RUNLAKE_INGEST`, else `tcp://127.0.0.1:8766`. Of a cluster, one worker's or several, separated by commas, in any
    order: whichever answers says which workers there are, and then all messages of one run go to one of them, in order.
    A worker that is away delays its own messages, which wait in the spool; the others go on, until the spool is full.
    `spool`: the folder of all spools of this user, or `off` for memory alone; by default the variable `RUNLAKE_SPOOL`,
    else `runlake/spool` in the user's state folder. Where it cannot be written, memory is used, with one warning.
    `spool_max_mb`: how large it may grow, all spools in it taken together (variable `RUNLAKE_SPOOL_MAX_MB`, else 512).
    An emitter asks before each segment that it makes ahead of need what the others have; those that make one in the
    same moment may each go beyond by it (up to 4 MiB), and each emitter may have two segments (of 256 KiB, or one
    message) of its own, whatever others left there.
    `spool_full`: what happens then: `refuse` new messages, or `drop-oldest` (variable `RUNLAKE_SPOOL_FULL`, else
    `refuse`); both are counted.
    `queue_messages`, `queue_bytes`: what may wait in memory, where there is no spool. Beyond that many messages, or
    that many bytes of what messages have past their first KiB, new messages are dropped and counted.
    `interval_ms`: how long messages are collected into one batch.
    `ack_timeout_s`: how long the worker may be silent before everything unacknowledged is sent again; twice as long
    each time that it stays silent, up to 10 minutes. A worker that is gone is noticed without it.
    `max_in_flight`: unacknowledged batches (of up to 500 messages or 256 KiB); the worker may allow fewer.
    `exit_timeout_s`: how long the end of the interpreter waits for the last messages to be delivered, at most; with a
    spool it may be 0: what is left is there, and the next emitter on this machine for the same endpoint delivers it.

    `server_key`, `client_key`: for a worker beyond loopback, its public key and the file with the own pair; by default
    the variables `RUNLAKE_SERVER_KEY` and `RUNLAKE_CLIENT_KEY`. They are read whenever a connection is made.

    Numbers out of range are brought into it. No method raises. An emitter that nobody holds any more closes itself.
    """

    OPTIONS = frozenset(
        (
            "endpoint", "spool", "spool_max_mb", "spool_full", "queue_messages", "queue_bytes", "interval_ms",
            "ack_timeout_s", "max_in_flight", "exit_timeout_s", "server_key", "client_key",
        )
    )  # fmt: skip
    """The names that `runlake.configure` takes."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        spool: str | os.PathLike[str] | None = None,
        spool_max_mb: int | None = None,
        spool_full: str | None = None,
        queue_messages: int = 100_000,
        queue_bytes: int = 64 * 1024 * 1024,
        interval_ms: float = 20,
        ack_timeout_s: float = 10.0,
        max_in_flight: int = 16,
        exit_timeout_s: float = 2.0,
        server_key: str | None = None,
        client_key: str | os.PathLike[str] | None = None,
    ) -> None:
        self._spool: SpoolOptions = spool_options(spool, spool_max_mb, spool_full)
        self._options = SenderOptions(
            endpoint=endpoint or os.environ.get(ENDPOINT_VARIABLE) or DEFAULT_ENDPOINT,
            interval_s=min(max(interval_ms, 1), 1_000) / 1000,
            ack_timeout_s=max(ack_timeout_s, 0.01),
            max_in_flight=max(max_in_flight, 1),
            drop_oldest=self._spool.full == DROP_OLDEST,
            keys=lambda: client_keys(server_key, client_key),
        )
        self._queue_messages = max(queue_messages, 1)
        self._queue_bytes = max(queue_bytes, 0)
        self._exit_timeout_s = exit_timeout_s
        self.host = os.uname().nodename or "localhost"
        """This machine's name, as runs carry it."""
        ids = self._start_empty()
        self.new_id: Callable[[], UUID] = ids
        """Makes UUIDv7s for messages, without a system call."""
        self.new_key: Callable[[], str] = ids.text
        """`new_id`, as text."""
        itself = ref(self)
        os.register_at_fork(after_in_child=lambda: _start_child(itself))
        self._at_exit = lambda: _close_at_exit(itself)
        atexit.register(self._at_exit)

    def _start_empty(self) -> Uuid7Source:
        new_id = Uuid7Source()
        self._notices = Notices()
        self._producer = f"{self.host[:200]}/{os.getpid()}/{os.urandom(8).hex()}"
        endpoint, root, start = self._options.endpoint, self._spool.root, Start()
        spool = SpoolFolder(root, self._producer, bound_to(endpoint), self._spool.max_bytes) if root else None
        adoption = Adoption(root, endpoint, Random(), self._producer) if root else None
        self._intake = Intake(start, self._queue_messages, self._queue_bytes, spool, self._notices)
        self.encode = PlainEncoder(self._intake.described.add).encode
        """Encodes a message as `emit` does; raises when there is no way to."""
        self._encode: Callable[[Any], bytes] = self.encode
        self._sender = Sender(self._options, self._producer, start, self._intake, self._notices, adoption)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        for warning in self._spool.warnings:
            self._notices.say(warning, warning)
        return new_id

    def start_child(self) -> None:
        """Forget what the parent process had, untouched: its sockets and its spool are its own. Called in a forked
        child."""
        self._parents = (getattr(self, "_parents", None), self._sender, self._thread)  # kept, or they would be closed
        if self._intake.spool is not None:
            self._intake.spool.abandon()
        self._sender.abandon()
        if self._spool.root is not None:
            close_inherited_locks(self._spool.root)
        ids = self._start_empty()
        self.new_id, self.new_key = ids, ids.text

    def emit(self, message: Message | BriefMessage) -> bool:
        """Take a message for delivery. Returns at once: True when it was taken, False when it was dropped and counted
        (see `stats`)."""
        reason = ""
        try:
            intake = self._intake
            intake.emitted.add()
            reason = NOT_A_MESSAGE
            if type(message) in _KINDS or isinstance(message, _MESSAGES):
                reason = NOT_ENCODABLE
                raw = self._encode(message)
                reason = FAILED
                taken = intake.put(raw)
            else:
                taken = intake.drop(NOT_A_MESSAGE)
        except BaseException as error:  # noqa: BLE001 (the agent's own objects are at work here; counted)
            taken = False
            try:
                if reason:
                    intake.dropped[reason].add()
                self._tell(reason, error)
            except Exception:  # noqa: BLE001 (the stack is full, or the interpreter half gone)
                return False
        if self._thread is None:
            try:
                self._start_thread()
            except Exception:  # noqa: BLE001 (as above; the next message starts it)
                return taken
        return taken

    def _tell(self, reason: str, error: BaseException) -> None:
        if reason == FAILED:
            self._notices.say("failed", f"RunLake could not take a message: {type(error).__name__}: {error}")
        pass_on(error)

    def last_number(self) -> int:
        """A ticket for all that was emitted up to now, for `delivered`. It grows, but counts nothing."""
        return self._intake.end

    def delivered(self, number: int, timeout: float = 10.0) -> bool:
        """Wait up to `timeout` seconds until all that was emitted up to the ticket `number` is on the worker's disk.

        True when it is. What was dropped is not waited for: `emit` said False, and `stats` counts it."""
        sender = self._sender
        if threading.current_thread() is self._thread:
            return False  # a logging handler of the sender's own notices: it would wait for itself
        if not self._running():
            return self._intake.untouched
        waiter = Waiter(number)
        sender.wait_for(waiter)
        if sender.finished and not waiter.done.is_set():  # it may have been too late for the waiter
            return self._nothing_is_left(number)
        try:
            waiter.done.wait(_seconds(timeout))
        finally:
            waiter.gave_up = True
        return waiter.reached

    async def delivered_async(self, number: int, timeout: float = 10.0) -> bool:
        """`delivered`, for coroutines: the event loop goes on."""
        import asyncio  # noqa: PLC0415 (loaded by who uses it)

        if threading.current_thread() is self._thread or not self._running():
            return self._intake.untouched
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        waiter = Waiter(number, lambda: loop.call_soon_threadsafe(told.set))
        self._sender.wait_for(waiter)
        if self._sender.finished and not waiter.done.is_set():
            return self._nothing_is_left(number)
        try:
            await asyncio.wait_for(told.wait(), _seconds(timeout))
        except TimeoutError:
            return waiter.reached
        finally:
            waiter.gave_up = True
        return waiter.reached

    def mark(self) -> Mark:
        """What `has_kept` compares with. Cheap: each run takes one."""
        sender = self._sender
        return sender, sender.displaced

    def has_kept(self, mark: Mark) -> bool:
        """Whether this is still the process that took the mark, and nothing that was taken was given up since."""
        sender = self._sender
        return sender is mark[0] and sender.displaced == mark[1]

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait up to `timeout` seconds until all that was emitted before is acknowledged. True when it is."""
        return self.delivered(self.last_number(), timeout)

    def close(self, timeout: float = 2.0) -> bool:
        """Take nothing more, deliver for up to `timeout` seconds, and end the thread. True when all was delivered.

        What is left then is in the spool for another process to deliver (`stats().queued`); without a spool it is
        dropped and counted as `undelivered`. What is emitted later is counted as `closed`.
        """
        self._intake.closed = True
        atexit.unregister(self._at_exit)
        return self._end(timeout)

    def stats(self) -> Stats:
        """The counts up to now. They balance when nothing is in the middle of being counted."""
        intake, sender = self._intake, self._sender
        acknowledged = sender.acknowledged
        dropped = {reason: intake.dropped[reason].value for reason in REASONS}
        in_memory = intake.in_memory.value
        emitted = intake.emitted.value
        refused = sum(dropped[reason] for reason in REFUSED_REASONS)
        return Stats(
            producer=self._producer,
            emitted=emitted,
            spooled=max(0, emitted - refused - in_memory),
            queued=max(0, emitted - acknowledged - sum(dropped.values())),
            sent=sender.sent,
            acknowledged=acknowledged,
            accepted=sender.accepted,
            duplicates=sender.duplicates,
            rejected=sender.rejected,
            last_rejections=sender.last_rejections,
            dropped={reason: count for reason, count in dropped.items() if count},
            described=intake.described.value,
            reconnects=sender.reconnects,
            protocol_errors=sender.protocol_errors,
            connected=sender.connected,
            adopted=sender.adoption.messages if sender.adoption is not None else 0,
            workers=sender.workers,
        )

    def notice(self, kind: str, text: str) -> None:
        """Have the sender thread log a warning on `runlake`, at most once a minute for each `kind`."""
        self._notices.say(kind, text)

    def __del__(self) -> None:
        try:
            atexit.unregister(self._at_exit)
            self._sender.stop(monotonic() + self._exit_timeout_s)
        except Exception:  # noqa: BLE001 (half made, or the interpreter is half gone)
            return

    def _end(self, timeout: float) -> bool:
        if not self._running():
            return self._intake.untouched
        seconds = _seconds(timeout)
        self._sender.stop(monotonic() + seconds)
        if threading.current_thread() is self._thread:
            return False
        self._sender.wait_ended(seconds + 1.0)  # it ends by itself; a little more for what it is in the middle of
        return self._sender.finished and self._nothing_is_left(0)

    def _nothing_is_left(self, number: int) -> bool:
        """Whether all was delivered when the sender ended, and nothing before the ticket `number` came later."""
        sender = self._sender
        return sender.left == 0 and self._intake.dropped[UNDELIVERED].value == 0 and number <= sender.ended_at

    def _running(self) -> bool:
        """Whether the sender runs, now at the latest if there is something for it to do."""
        if self._thread is None and not self._intake.untouched:
            self._start_thread()
        return self._thread is not None

    def _start_thread(self) -> None:
        """Start the sender, unless another thread (or the code that a signal handler interrupted) is at it."""
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._sender.run, name="runlake-sender", daemon=True)
                self._thread = thread  # before it runs, so that nobody takes an empty queue for a delivered one
                thread.start()
                self._end_with_the_child()
        except Exception:  # noqa: BLE001 (no threads left, or the interpreter is ending: the messages stay queued)
            self._thread = None
        finally:
            self._starting.release()

    def close_at_exit(self) -> None:
        """What the end of the interpreter does. What is emitted even later is in the spool, if there is one."""
        if self._intake.spool is None:
            self._intake.closed = True
        self._end(self._exit_timeout_s)

    def _end_with_the_child(self) -> None:
        """Children of `multiprocessing` end without `atexit`, and have something of their own."""
        process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
        if process is not None and util is not None and process.parent_process() is not None:
            util.Finalize(None, _close_at_exit, args=(ref(self),), exitpriority=-100)


def _seconds(timeout: object) -> float:
    """A timeout as given by an agent: at least 0, at most a day, and 2 s for what is no number."""
    try:
        return min(max(float(timeout), 0.0), 86_400.0)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 2.0


def _start_child(emitter: ref[Emitter]) -> None:
    found = emitter()
    if found is not None:
        found.start_child()


def _close_at_exit(emitter: ref[Emitter]) -> None:
    found = emitter()
    if found is not None:
        found.close_at_exit()
