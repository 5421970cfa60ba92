"""What trees, histories and commits are answered with, as types."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from runlake_query.schemas import Run


class SubtreeTotals(Struct):
    """What a run and all its descendants add up to: each run's own numbers, once. `failures` counts timeouts, too;
    `duration_ms` is the sum of their durations, `elapsed_ms` from the first start to the last end."""

    runs: int
    running: int
    failures: int
    duration_ms: int
    elapsed_ms: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd: float
    events: int


class TreeRun(Struct):
    """A run of a tree. `children` counts all, also those that are not listed; `associated` is told of commits."""

    depth: int
    parent_event_id: UUID | None
    children: int
    totals: SubtreeTotals
    run: Run  # type: ignore[valid-type]
    associated: bool | UnsetType = UNSET


class Tree(Struct):
    """A run and its descendants, parents before their children. `total` counts them; `truncated`: not all are listed;
    `complete` is false when the tree has more runs or levels than are looked at, so that totals are of a part."""

    parent_event_id: UUID | None
    runs: list[TreeRun]
    total: int
    truncated: bool
    complete: bool
    cycles: int
    limit: int
    depth: int


class Change(Struct):
    """One accepted change: `fields` are those that it set."""

    position: str
    received_at: datetime
    producer: str
    kind: str
    event_id: UUID
    ts: datetime
    fields: dict[str, Any]


class History(Struct):
    """The changes of a run in log order. `complete` is false while the latest of them are not in the lake yet."""

    event_id: UUID
    changes: list[Change]
    complete: bool
    limit: int
    next_cursor: str | None


class RunAssociation(Struct):
    """Who said that a commit came of a run."""

    run_event_id: UUID
    commit_hash: str
    commit_source: str | None
    commit_author: str | None
    commit_timestamp: datetime | None
    ts: datetime
    position: str


class RunCommits(Struct):
    """The commits of a run in the order in which they were said. `truncated`: not all are listed."""

    event_id: UUID
    associations: list[RunAssociation]
    truncated: bool
    limit: int


class Association(RunAssociation):
    """`launch_event_id` is the run at the top above that one."""

    launch_event_id: UUID | None


class CommitRuns(Struct):
    """The runs of a commit and their descendants, as trees; see Tree."""

    commit_hash: str
    associations: list[Association]
    runs: list[TreeRun]
    total: int
    truncated: bool
    complete: bool
    cycles: int
    limit: int
    depth: int
