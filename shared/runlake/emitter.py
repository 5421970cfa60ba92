"""The emitter: what an agent hands its messages to, and never hears from again.

`emit` encodes on the caller's thread (so that later changes to a payload do not show), appends to a bounded queue, and
returns: no lock, no system call, no exception. One daemon thread (`sender.py`) does everything else. It is started by
the first message, which therefore takes longer, as does the making of the emitter itself (it loads pyzmq, about 20 ms).

A forked child starts empty: its copy of the emitter gets a new queue, a new producer id and, with its first message, a
thread of its own; what the parent had queued is the parent's to send.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from time import monotonic
from uuid import UUID
from weakref import ref

from runlake.ids import Uuid7Source
from runlake.intake import NOT_A_MESSAGE, NOT_ENCODABLE, REASONS, UNDELIVERED, Intake, Marker
from runlake.messages import CommitAssociated, Message, RunEvent, RunStarted, RunUpdated
from runlake.notices import Notices
from runlake.plain import PlainEncoder
from runlake.sender import Sender, SenderOptions
from runlake.stats import Stats

ENDPOINT_VARIABLE = "RUNLAKE_INGEST"
DEFAULT_ENDPOINT = "tcp://127.0.0.1:8766"
_MESSAGES = (RunEvent, RunUpdated, RunStarted, CommitAssociated)


class Emitter:
    """Delivers messages to an ingest worker, in order, until the worker says that they are on its disk.

    `endpoint`: the worker's acknowledged socket, `tcp://host:port` or `ipc://path`; by default the variable
    `RUNLAKE_INGEST`, else `tcp://127.0.0.1:8766`.
    `queue_messages`, `queue_bytes`: what may wait. Beyond that many messages, or that many bytes of what messages have
    past their first KiB, new messages are dropped and counted.
    `interval_ms`: how long messages are collected into one batch.
    `ack_timeout_s`: how long the worker may be silent before everything unacknowledged is sent again; twice as long
    each time that it stays silent, up to 10 minutes. A worker that is gone is noticed without it.
    `max_in_flight`: unacknowledged batches (of up to 500 messages or 256 KiB); the worker may allow fewer.
    `exit_timeout_s`: how long the end of the interpreter waits for the last messages.

    Numbers out of range are brought into it. No method raises. An emitter that nobody holds any more closes itself.
    """

    OPTIONS = frozenset(
        ("endpoint", "queue_messages", "queue_bytes", "interval_ms", "ack_timeout_s", "max_in_flight", "exit_timeout_s")
    )
    """The names that `runlake.configure` takes."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        queue_messages: int = 100_000,
        queue_bytes: int = 64 * 1024 * 1024,
        interval_ms: float = 20,
        ack_timeout_s: float = 10.0,
        max_in_flight: int = 16,
        exit_timeout_s: float = 2.0,
    ) -> None:
        self._options = SenderOptions(
            endpoint=endpoint or os.environ.get(ENDPOINT_VARIABLE) or DEFAULT_ENDPOINT,
            interval_s=min(max(interval_ms, 1), 1_000) / 1000,
            ack_timeout_s=max(ack_timeout_s, 0.01),
            max_in_flight=max(max_in_flight, 1),
        )
        self._queue_messages = max(queue_messages, 1)
        self._queue_bytes = max(queue_bytes, 0)
        self._exit_timeout_s = exit_timeout_s
        self.host = os.uname().nodename or "localhost"
        """This machine's name, as runs carry it."""
        self.new_id: Callable[[], UUID] = self._start_empty()
        """Makes UUIDv7s for messages, without a system call."""
        itself = ref(self)
        os.register_at_fork(after_in_child=lambda: _start_child(itself))
        self._at_exit = lambda: _close_at_exit(itself)
        atexit.register(self._at_exit)

    def _start_empty(self) -> Uuid7Source:
        new_id = Uuid7Source()
        self._notices = Notices()
        self._intake = Intake(self._queue_messages, self._queue_bytes)
        self.encode = PlainEncoder(self._intake.described.add).encode
        """Encodes a message as `emit` does; raises when there is no way to."""
        self._encode: Callable[[Message], bytes] = self.encode
        self._producer = f"{self.host[:200]}/{os.getpid()}/{os.urandom(8).hex()}"
        self._sender = Sender(self._options, self._producer, self._intake, self._notices)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        return new_id

    def start_child(self) -> None:
        """Forget what the parent process had, untouched: its sockets are its own. Called in a forked child."""
        self._parents = (getattr(self, "_parents", None), self._sender, self._thread)  # kept, or they would be closed
        self.new_id = self._start_empty()

    def emit(self, message: Message) -> None:
        """Queue a message for delivery. Returns at once; what cannot be taken is dropped and counted (see `stats`)."""
        intake = self._intake
        intake.emitted.add()
        if not isinstance(message, _MESSAGES):
            intake.dropped[NOT_A_MESSAGE].add()
            return
        try:
            raw = self._encode(message)
        except Exception:  # noqa: BLE001 (the agent's own objects are at work here; counted)
            intake.dropped[NOT_ENCODABLE].add()
            return
        intake.put(raw)
        if self._thread is None:
            self._start_thread()

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait up to `timeout` seconds until all that was emitted before is acknowledged. True when it is."""
        sender = self._sender
        if threading.current_thread() is self._thread:
            return False  # a logging handler of the sender's own notices: it would wait for itself
        if not self._running():
            return not self._undelivered()
        marker = Marker()
        self._intake.queue.append(marker)
        if sender.finished:  # it may have been too late for the marker
            return not self._undelivered()
        marker.done.wait(_seconds(timeout))
        return marker.reached

    def close(self, timeout: float = 2.0) -> bool:
        """Take nothing more, deliver for up to `timeout` seconds, and end the thread. True when all was delivered.

        What is left then is dropped and counted as `undelivered`, what is emitted later as `closed`.
        """
        self._intake.closed = True
        atexit.unregister(self._at_exit)
        if not self._running():
            return not self._undelivered()
        seconds = _seconds(timeout)
        self._sender.stop(monotonic() + seconds)
        if threading.current_thread() is self._thread:
            return False
        self._sender.wait_ended(seconds + 1.0)  # it ends by itself; a little more for what it is in the middle of
        return self._sender.finished and not self._undelivered()

    def stats(self) -> Stats:
        """The counts up to now. They balance when nothing is in the middle of being counted."""
        intake, sender = self._intake, self._sender
        acknowledged = sender.acknowledged
        dropped = {reason: intake.dropped[reason].value for reason in REASONS}
        emitted = intake.emitted.value
        return Stats(
            producer=self._producer,
            emitted=emitted,
            queued=max(0, emitted - acknowledged - sum(dropped.values())),
            sent=sender.sent,
            acknowledged=acknowledged,
            accepted=sender.accepted,
            duplicates=sender.duplicates,
            rejected=sender.rejected,
            last_rejections=sender.last_rejections,
            dropped={reason: count for reason, count in dropped.items() if count},
            described=intake.described.value,
            reconnects=max(0, sender.connections - 1),
            protocol_errors=sender.protocol_errors,
            connected=sender.connected,
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

    def _undelivered(self) -> bool:
        left = any(isinstance(item, bytes) for item in self._intake.queue.copy())
        return left or self._intake.dropped[UNDELIVERED].value > 0

    def _running(self) -> bool:
        """Whether the sender runs, now at the latest if there is something for it to do."""
        if self._thread is None and self._intake.queue:
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
        except Exception:  # noqa: BLE001 (no threads left, or the interpreter is ending: the messages stay queued)
            self._thread = None
        finally:
            self._starting.release()

    def close_at_exit(self) -> None:
        """What the end of the interpreter does."""
        self.close(self._exit_timeout_s)


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
