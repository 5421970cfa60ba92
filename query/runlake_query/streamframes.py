"""The frames of streams: each is made once, and shared by all who are sent it."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import msgspec

from runlake_query.positions import Positions, format_positions
from runlake_query.sse import frame, without_id
from runlake_query.streambatch import Batch, LifeItem, Selection

MAX_TOLD_RUNS = 200
"""For how many runs the coalesced frames are told apart."""

_ID = b"id: "


class Frame(NamedTuple):
    """One event of the stream, and whose it is. Without a worker it has no position of its own."""

    worker: UUID | None
    seq: int
    about: tuple[str, str]
    kind: str
    data: bytes


def life_frame(item: LifeItem) -> Frame:
    """A run became stale, or revived. It has no id: it is no part of the log, and is not told again."""
    return Frame(None, 0, (str(item.run), item.run_id), item.kind, without_id(frame(item.kind, item.body, "")))


class BatchFrames:
    """The frames of one batch, made when somebody is sent them."""

    def __init__(self, batch: Batch, positions: Positions) -> None:
        others = format_positions({worker: seq for worker, seq in positions.items() if worker != batch.worker})
        self._prefix = f"{others},{batch.worker}:" if others else f"{batch.worker}:"
        self._batch = batch
        self._events: list[Frame | None] = [None] * len(batch.events)
        self._runs: list[Frame | None] = [None] * len(batch.runs)

    def of(self, selection: Selection) -> list[Frame]:
        """What a selection sees, in log order. The batch must cover it."""
        batch = self._batch
        at = batch.filters.index(selection.filter_key) if selection.filter_key else -1
        found: list[Frame] = []
        for number, event in enumerate(batch.events):
            if selection.type is not None and event.type != selection.type:
                continue
            if selection.run is not None:
                mine = event.run == selection.run or (event.run is None and event.run_id == selection.run_id)
            else:
                mine = at < 0 or event.passes[at]
            if mine:
                found.append(self._events[number] or self._event(number))
        if selection.run is None and selection.type is None:
            for number, run in enumerate(batch.runs):
                if at < 0 or run.passes[at]:
                    found.append(self._runs[number] or self._run(number))
            found.sort(key=lambda item: item.seq)
        return found

    def _event(self, number: int) -> Frame:
        event = self._batch.events[number]
        data = frame("event", event.body, f"{self._prefix}{event.seq}")
        made = Frame(self._batch.worker, event.seq, (str(event.run or ""), event.run_id), "event", data)
        self._events[number] = made
        return made

    def _run(self, number: int) -> Frame:
        run = self._batch.runs[number]
        data = frame("run", run.body, f"{self._prefix}{run.seq}")
        made = Frame(self._batch.worker, run.seq, (str(run.event_id), run.run_id), "run", data)
        self._runs[number] = made
        return made


def coalesce(frames: list[Frame]) -> list[Frame]:
    """Of each run the last state, of events their number; and at the end how many frames of which runs were left out.

    Only the end has an id: who is cut off before it and comes back is sent all of it again, so that nothing is left out
    without being said.
    """
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
            kept.append(item._replace(data=without_id(item.data)) if item.data.startswith(_ID) else item)
    about = list(dict.fromkeys((*changes, *events)))
    runs = [
        {"event_id": key[0], "run_id": key[1], "changes": changes.get(key, 0), "events": events.get(key, 0)}
        for key in about[:MAX_TOLD_RUNS]
    ]
    body = {
        "runs": runs,
        "more_runs": len(about) - len(runs),
        "changes": sum(changes.values()),
        "events": sum(events.values()),
    }
    if not about:
        return frames
    final = next(item for item in reversed(frames) if item.data.startswith(_ID))
    ident = final.data.partition(b"\n")[0].removeprefix(_ID).decode()
    data = frame("coalesced", msgspec.json.encode(body).decode(), ident)
    return [*kept, Frame(final.worker, final.seq, ("", ""), "coalesced", data)]


def told(frames: list[Frame]) -> int:
    """How many frames of runs and run events there are."""
    return sum(item.kind in ("run", "event") for item in frames)


def lost(positions: Positions, reason: str) -> Frame:
    """What was left out is not known."""
    body = msgspec.json.encode({"reason": reason}).decode()
    return Frame(None, 0, ("", ""), "lost", frame("lost", body, format_positions(positions)))
