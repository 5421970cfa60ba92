"""The lines of a feed span, sorted by what becomes of them: pure, from NDJSON to JSON arrays that DuckDB takes as rows.

Only the few keys that decide anything are read here; the rest is DuckDB's to read, and to refuse.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import Struct

_CHANGES = frozenset(("run.started", "run.updated", "commit.associated"))
_EVENT = "run.event"
_DELIVERY = "delivery"


class UnreadableLines(Exception):  # noqa: N818 (named by what was found)
    """The lines of the feed are not those of the span: it must come from the lake."""


class _Head(Struct, gc=False):
    kind: str
    seq: int = 0
    first_seq: int = 0
    event_id: UUID | None = None
    run_event_id: UUID | None = None
    run_id: str = ""
    commit_hash: str | None = None
    ts: datetime | None = None


class _Count(Struct, gc=False, omit_defaults=True):
    """Run events that are about one run (`event_id`), or that name a `run_id` alone."""

    event_id: UUID | None = None
    run_id: str | None = None
    events: int = 0
    first_event_at: datetime | None = None
    last_event_at: datetime | None = None
    changed: bool = False

    def add(self, ts: datetime) -> None:
        self.events += 1
        self.first_event_at = ts if self.first_event_at is None else min(self.first_event_at, ts)
        self.last_event_at = ts if self.last_event_at is None else max(self.last_event_at, ts)


class FeedRows(Struct, frozen=True, kw_only=True):
    """What a span holds, each a JSON array (its elements: the journal's lines, but for `touched` and `loose`)."""

    changes: str
    events: str
    deliveries: str
    touched: str
    """The runs that changes and events are about: how many events, from when to when, and whether anything changed."""
    commits: str
    """The changes that say a commit of their run."""
    loose: str
    """Counts of the events that name a `run_id` and no run."""
    fields: frozenset[str]
    """The keys that any of the changes has."""
    changes_count: int
    events_count: int


_decoder = msgspec.json.Decoder(_Head)
_keys = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


def sort_lines(lines: bytes, after: int, upto: int) -> FeedRows:
    """Sort the lines of positions `after` < seq ≤ `upto`. What is at or before `after` is left out.

    Raises UnreadableLines when they do not hold each of these positions once.
    """
    changes: list[bytes] = []
    commits: list[bytes] = []
    events: list[bytes] = []
    deliveries: list[bytes] = []
    touched: dict[UUID, _Count] = {}
    loose: dict[str, _Count] = {}
    fields: set[str] = set()
    seen: set[int] = set()
    for line in lines.splitlines():
        try:
            head = _decoder.decode(line)
            keys = _keys.decode(line) if head.kind in _CHANGES else {}
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreadableLines(f"A line cannot be read: {error}") from None
        if head.kind == _DELIVERY:
            if head.first_seq > after:
                deliveries.append(line)
            continue
        if not after < head.seq <= upto:
            continue
        if head.kind in _CHANGES:
            run = head.run_event_id or head.event_id
            if run is None:
                raise UnreadableLines("A change names no run.")
            changes.append(line)
            fields.update(keys)
            if head.commit_hash is not None:
                commits.append(line)
            _count(touched, run).changed = True
        elif head.kind == _EVENT:
            if head.ts is None:
                raise UnreadableLines("An event has no time.")
            events.append(line)
            if head.run_event_id is not None:
                _count(touched, head.run_event_id).add(head.ts)
            else:
                if head.run_id not in loose:
                    loose[head.run_id] = _Count(run_id=head.run_id)
                loose[head.run_id].add(head.ts)
        else:
            continue
        if head.seq in seen:
            raise UnreadableLines(f"Position {head.seq} is there twice.")
        seen.add(head.seq)
    if len(seen) != max(0, upto - after):
        raise UnreadableLines("The lines are not those of the span.")
    return FeedRows(
        changes=_array(changes),
        commits=_array(commits),
        events=_array(events),
        deliveries=_array(deliveries),
        touched=_encoder.encode(list(touched.values())).decode() if touched else "",
        loose=_encoder.encode(list(loose.values())).decode() if loose else "",
        fields=frozenset(fields),
        changes_count=len(changes),
        events_count=len(events),
    )


def _count(counts: dict[UUID, _Count], run: UUID) -> _Count:
    found = counts.get(run)
    if found is None:
        found = counts[run] = _Count(event_id=run)
    return found


def _array(lines: list[bytes]) -> str:
    """A JSON array of these lines; empty without any."""
    try:
        return f"[{b','.join(lines).decode()}]" if lines else ""
    except UnicodeDecodeError as error:
        raise UnreadableLines(f"A line cannot be read: {error}") from None
