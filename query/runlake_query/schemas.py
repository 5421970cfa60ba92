"""What the API answers, as types: the OpenAPI document is made from these, and the tests hold the answers to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from runlake.fields import RUN_FIELDS
from runlake.messages import Status
from runlake_query.rollups import MEASURES

_TYPES: dict[str, Any] = {
    "UUID": UUID,
    "VARCHAR": str,
    "TIMESTAMPTZ": datetime,
    "BIGINT": int,
    "DECIMAL(18,9)": float,
    "JSON": dict[str, Any],
}
_ALWAYS = frozenset(
    ("event_id", "run_id", "agent_name", "job_type", "status", "start_time", "created_at", "updated_at")
)


def _type_of(name: str, sql_type: str) -> Any:
    kind = Status if name == "status" else _TYPES[sql_type]
    return kind if name in _ALWAYS else kind | None


Run = msgspec.defstruct(
    "Run", [(field.name, _type_of(field.name, field.sql_type)) for field in RUN_FIELDS], namespace={"__doc__": "A run."}
)


class RunList(Struct):
    """One page of runs, newest start first. `total` counts all that match."""

    runs: list[Run]  # type: ignore[valid-type]
    total: int
    limit: int
    offset: int
    next_cursor: str | None


class BatchError(Struct):
    """Why one run of a batch was not stored."""

    index: int
    event_id: str | None
    error: str


class BatchResult(Struct):
    """What became of a batch. `runs` holds those stored and those that were there already, in the order given."""

    runs: list[Run]  # type: ignore[valid-type]
    total: int
    created: int
    existing: int
    failed: int
    errors: list[BatchError]


class BareBatchResult(Struct):
    """What became of a batch that came as a bare array."""

    inserted: int
    duplicates: int
    errors: list[BatchError]
    total: int


class Event(Struct):
    """Something that happened in a run."""

    event_id: UUID
    run_id: str
    ts: datetime
    type: str
    payload: dict[str, Any] | None
    trace_id: str | None
    span_id: str | None
    parent_span_id: str | None


class MetadataCounts(Struct):
    agent_names: int
    job_types: int


class Metadata(Struct):
    """Which agents and jobs there are."""

    agent_names: list[str]
    job_types: list[str]
    counts: MetadataCounts
    cache_hit: bool


class Performance(Struct):
    """`success_rate` is the share of successes among finished runs; all are null while there is nothing to say."""

    avg_duration_ms: float | None
    p50_duration_ms: float | None
    p95_duration_ms: float | None
    success_rate: float | None


class Summary(Struct):
    """The JSON form of /metrics. `agents` counts the runs of each."""

    total_runs: int
    agents: dict[str, int]
    recent_24h: int
    performance: Performance


class Health(Struct):
    """This process is alive. `workers_away` are the ingest workers that it cannot reach."""

    status: str
    version: str
    uptime_s: float
    workers_away: list[str]


class WorkerState(Struct):
    """An ingest worker as this process sees it. `worker` is null until it has said who it is; `reason` is why it is not
    connected. What it has written is reflected up to `position`."""

    worker: str | None
    connected: bool
    reason: str
    feed_heard: bool
    position: int


class Ready(Struct):
    """This process has caught up. `ingest_connected` and `feed_heard`: all of the workers. While the lake cannot be
    followed (`reason` says why) it is ready as long as every feed is heard, and nothing of it is missing."""

    status: str
    lag_ms: int
    position: str
    failures: int
    lake_followed: bool
    reason: str
    ingest_connected: bool
    feed_heard: bool
    workers: list[WorkerState]


Measures = msgspec.defstruct(
    "Measures",
    [
        (name, (datetime if name.endswith("_time") else float) | None | msgspec.UnsetType, msgspec.UNSET)
        for name in MEASURES
    ],
    namespace={"__doc__": "The measures that were asked for; in a row, beside its dimensions and its bucket."},
)


class Rollup(Struct):
    """Measures of the runs that match, by dimensions and bucket."""

    group_by: list[str]
    bucket: str | None
    rows: list[Measures]  # type: ignore[valid-type]
    totals: Measures  # type: ignore[valid-type]
    truncated: bool
    position: str


class Producer(Struct):
    """The books of one producer at one worker: received = accepted + duplicate + rejected."""

    producer: str
    worker: UUID
    received: int
    accepted: int
    duplicate: int
    rejected: int
    gaps: int
    first_seen: datetime
    last_seen: datetime


class ProducerList(Struct):
    producers: list[Producer]
    total: int
    limit: int
    offset: int


class ListedPrice(Struct):
    """What a model costs from a time on: US dollars per million tokens of each kind."""

    model: str
    valid_from: datetime
    input: float
    output: float
    cache_read: float | None
    cache_write: float | None


class PriceTable(Struct):
    """The price list in force; version 0 while there is none. `runs_to_reprice` still show costs by another one."""

    version: int
    source: str | None
    written_at: datetime | None
    runs_to_reprice: int
    prices: list[ListedPrice]


class Refused(Struct):
    """A message that was refused; `raw` in Base64."""

    id: str
    received_at: datetime
    worker: UUID
    producer: str
    batch: int | None
    number: int | None
    messages: int
    field: str | None
    reason: str
    raw: str


class Quarantine(Struct):
    quarantine: list[Refused]
    total: int
    messages: int
    limit: int
    next_cursor: str | None
