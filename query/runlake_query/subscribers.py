"""Who watches, and what each of them has yet to be sent. On the event loop, but for what says otherwise.

Those who watch the same (one filter, or one run) are a group: their text is made once for all of them. A group is sent
to at most so often that sending stays a bounded share of the process; what comes faster than a limit is coalesced, and
said to be: of a run its last state, of events how many there were. Who does not read is dropped, with the reason.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from runlake_query.positions import Positions, format_positions
from runlake_query.sse import frame

MAX_SUBSCRIBERS = 4_000
MAX_FILTERS = 200
"""Different filters at a time: each is a column of one query for every span that is applied."""
MAX_PENDING_BYTES = 1024 * 1024
"""When more than this waits for a subscriber and more comes, it is too slow."""
_MIN_INTERVAL_S = 0.01
_INTERVAL_PER_SUBSCRIBER_S = 0.0002
_MAX_RATE = 2_000
"""Frames a second to one group; beyond, they are coalesced."""
_MIN_BURST = 500
_MAX_COALESCED = 200
"""For how many runs the coalesced frames are told apart."""


class Filter(NamedTuple):
    """A condition on shown runs, and the values that it binds; `true` passes all, also what has no run."""

    sql: str
    values: dict[str, Any]


class Selection(NamedTuple):
    """What a subscriber watches: the runs that pass a filter (its key), or the events of one run."""

    filter_key: str = ""
    run: UUID | None = None
    run_id: str | None = None
    """Of the watched run, when events that name no run are its own."""
    type: str | None = None


class RunItem(NamedTuple):
    seq: int
    event_id: UUID
    run_id: str
    body: str
    passes: list[bool]


class EventItem(NamedTuple):
    seq: int
    run: UUID | None
    run_id: str
    type: str
    body: str
    passes: list[bool]


class Batch(NamedTuple):
    """What one commit made visible of one worker's log. `passes` of its items is in the order of `filters`."""

    worker: UUID
    filters: list[str]
    runs: list[RunItem]
    events: list[EventItem]


class Frame(NamedTuple):
    """One event of the stream, and whose it is."""

    worker: UUID | None
    seq: int
    about: tuple[str, str]
    kind: str
    data: bytes


class TooMany(Exception):  # noqa: N818 (named by what was found)
    """One more would be too many: of subscribers, or of different filters."""


class Subscriber:
    """One connection. `wake` is set when there is something to send, or to end for."""

    def __init__(self, selection: Selection, at: Positions) -> None:
        self.selection = selection
        self.wake = asyncio.Event()
        self.dropped = ""
        """Why it is dropped, when it is."""
        self._at = dict(at)
        self._pending: list[bytes] = []
        self._size = 0

    def start_at(self, positions: Positions) -> None:
        """What is at or before these positions has been sent."""
        self._at = dict(positions)

    def give(self, frames: list[Frame], text: bytes) -> None:
        """Queue the text of some frames, without those that have been sent."""
        if self.dropped:
            return
        fresh = [f for f in frames if f.worker is None or f.seq > self._at.get(f.worker, 0)]
        if len(fresh) < len(frames):
            text = b"".join(f.data for f in fresh)
        if not text:
            return
        if self._size > MAX_PENDING_BYTES:
            self.drop(f"too slow: more than {MAX_PENDING_BYTES:,} bytes were waiting")
            return
        self._pending.append(text)
        self._size += len(text)
        self.wake.set()

    def take(self) -> bytes:
        """All that waits."""
        self.wake.clear()
        text = b"".join(self._pending)
        self._pending.clear()
        self._size = 0
        return text

    def drop(self, reason: str) -> None:
        """End it with a reason; what waited is not sent any more."""
        self.dropped = reason
        self._pending.clear()
        self._size = 0
        self.wake.set()


class _Group:
    """The subscribers of one selection."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.members: set[Subscriber] = set()
        self.frames: list[Frame] = []
        self.sent_at = 0.0
        self.timer: asyncio.TimerHandle | None = None


class Subscribers:
    """All of them. `filters`, `any`, `publish` and `skipped` are the follower's, on its thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._filters: dict[str, Filter] = {}
        self._groups: dict[Selection, _Group] = {}
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self.slow = 0
        """How many were dropped because they did not keep up."""
        self.coalesced = 0
        """How many frames were left out because there were too many."""

    def start(self) -> None:
        """On the event loop, before the first subscriber."""
        self._loop = asyncio.get_running_loop()

    @property
    def count(self) -> int:
        return self._count

    def add(self, selection: Selection, condition: Filter | None, at: Positions) -> Subscriber:
        """One more. Raises TooMany."""
        if self._count >= MAX_SUBSCRIBERS:
            raise TooMany
        with self._lock:
            if condition is not None and selection.filter_key not in self._filters:
                if len(self._filters) >= MAX_FILTERS:
                    raise TooMany
                self._filters[selection.filter_key] = condition
            group = self._groups.setdefault(selection, _Group(selection))
            self._count += 1
        subscriber = Subscriber(selection, at)
        group.members.add(subscriber)
        return subscriber

    def remove(self, subscriber: Subscriber) -> None:
        group = self._groups[subscriber.selection]
        group.members.discard(subscriber)
        with self._lock:
            self._count -= 1
            if not group.members:
                del self._groups[subscriber.selection]
                if group.timer is not None:
                    group.timer.cancel()
                key = subscriber.selection.filter_key
                if key and not any(selection.filter_key == key for selection in self._groups):
                    self._filters.pop(key, None)
        self.slow += bool(subscriber.dropped)

    def close(self) -> None:
        """Tell everyone that this process stops."""
        for group in list(self._groups.values()):
            for subscriber in list(group.members):
                subscriber.drop("this process stops")

    # On the follower's thread

    def any(self) -> bool:
        return self._count > 0

    def filters(self) -> list[tuple[str, Filter]]:
        """The filters in use, by key."""
        with self._lock:
            return list(self._filters.items())

    def publish(self, batch: Batch, positions: Positions) -> None:
        """Hand on what was committed."""
        if self._count:
            self._call(batch, positions)

    def skipped(self, positions: Positions) -> None:
        """More than anyone could be told was committed at once: everyone is told that."""
        if self._count:
            self._call(None, positions)

    def _call(self, batch: Batch | None, positions: Positions) -> None:
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._deliver, batch, positions)
            except RuntimeError:  # the loop is closed: nobody watches any more
                self._count = 0

    # On the event loop

    def _deliver(self, batch: Batch | None, positions: Positions) -> None:
        for group in list(self._groups.values()):
            if batch is None:
                group.frames = [_lost(positions, "more was applied at once than a stream can tell; read it anew")]
            else:
                group.frames += _frames(group.selection, batch, positions)
            if group.frames and group.timer is None:
                self._schedule(group)

    def _schedule(self, group: _Group) -> None:
        loop = asyncio.get_running_loop()
        interval = max(_MIN_INTERVAL_S, _INTERVAL_PER_SUBSCRIBER_S * len(group.members))
        due = group.sent_at + interval
        if due <= loop.time():
            self._send(group)
        else:
            group.timer = loop.call_at(due, self._send, group)

    def _send(self, group: _Group) -> None:
        loop = asyncio.get_running_loop()
        group.timer = None
        limit = max(_MIN_BURST, int(_MAX_RATE * min(1.0, loop.time() - group.sent_at)))
        group.sent_at = loop.time()
        frames, group.frames = group.frames, []
        if len(frames) > limit:
            shorter = coalesce(frames)
            self.coalesced += len(frames) - len(shorter)
            frames = shorter
        text = b"".join(item.data for item in frames)
        for subscriber in group.members:
            subscriber.give(frames, text)


def coalesce(frames: list[Frame]) -> list[Frame]:
    """Of each run the last state, of its events their number; and how many frames of which runs were left out."""
    last = {item.about: item for item in frames if item.kind == "run"}
    changes: dict[tuple[str, str], int] = {}
    events: dict[tuple[str, str], int] = {}
    kept: list[Frame] = []
    for item in frames:
        if item.kind == "event":
            events[item.about] = events.get(item.about, 0) + 1
        elif item.kind == "run" and last[item.about] is not item:
            changes[item.about] = changes.get(item.about, 0) + 1
        else:
            kept.append(item)
    about = list(dict.fromkeys((*changes, *events)))
    told = [
        {"event_id": key[0], "run_id": key[1], "changes": changes.get(key, 0), "events": events.get(key, 0)}
        for key in about[:_MAX_COALESCED]
    ]
    rest = about[_MAX_COALESCED:]
    body = {
        "runs": told,
        "more_runs": len(rest),
        "changes": sum(changes.values()),
        "events": sum(events.values()),
    }
    final = frames[-1]
    ident = final.data.partition(b"\n")[0].removeprefix(b"id: ").decode()
    data = frame("coalesced", msgspec.json.encode(body).decode(), ident)
    return [*kept, Frame(final.worker, final.seq, ("", ""), "coalesced", data)]


def _frames(selection: Selection, batch: Batch, positions: Positions) -> list[Frame]:
    """What of a batch a selection sees, in log order."""
    others = format_positions({worker: seq for worker, seq in positions.items() if worker != batch.worker})
    prefix = f"{others},{batch.worker}:" if others else f"{batch.worker}:"
    at = -1
    if selection.filter_key:
        if selection.filter_key not in batch.filters:
            return []  # subscribed after this was read; what it missed is in its own first read
        at = batch.filters.index(selection.filter_key)
    made: list[Frame] = []
    for event in batch.events:
        if selection.type is not None and event.type != selection.type:
            continue
        if selection.run is not None:
            mine = event.run == selection.run or (event.run is None and event.run_id == selection.run_id)
        else:
            mine = at < 0 or event.passes[at]
        if mine:
            about = (str(event.run or ""), event.run_id)
            made.append(
                Frame(batch.worker, event.seq, about, "event", frame("event", event.body, f"{prefix}{event.seq}"))
            )
    if selection.run is None and selection.type is None:
        for run in batch.runs:
            if at < 0 or run.passes[at]:
                about = (str(run.event_id), run.run_id)
                made.append(Frame(batch.worker, run.seq, about, "run", frame("run", run.body, f"{prefix}{run.seq}")))
        made.sort(key=lambda item: item.seq)
    return made


def _lost(positions: Positions, reason: str) -> Frame:
    body = msgspec.json.encode({"reason": reason}).decode()
    return Frame(None, 0, ("", ""), "lost", frame("lost", body, format_positions(positions)))
