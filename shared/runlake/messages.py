"""The messages of wire version 1: what an agent can say.

Four kinds, a union tagged on `kind`. A field that is None is absent: it can be replaced by a later message, never
cleared. Bounds are those of the lake's columns, so that whatever was accepted can be stored. Unknown fields are ignored
on decoding, so that an old worker accepts a new agent.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

MAX_NAME_CHARS = 1_024
MAX_TEXT_CHARS = 65_536
MAX_COUNT = 2**63 - 1

Name = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]
RequiredName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)]
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
ZonedTime = Annotated[datetime, Meta(tz=True)]
CommitHash = Annotated[str, Meta(pattern=r"^[0-9A-Za-z]{7,40}\Z")]
CommitSource = Literal["manual", "llm", "ci"]
JsonMap = dict[str, Any]

Status = Literal["running", "success", "failure", "partial", "timeout", "cancelled"]
StatusOrAlias = Literal[
    "running", "success", "failure", "partial", "timeout", "cancelled", "failed", "completed", "succeeded"
]
STATUS_ALIASES: dict[str, Status] = {"failed": "failure", "completed": "success", "succeeded": "success"}


class Updatable(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The run fields that a start may set and any later change may replace."""

    trigger_type: Name | None = None
    environment: Name | None = None
    host: Name | None = None
    product: Name | None = None
    product_family: Name | None = None
    platform: Name | None = None
    website: Name | None = None
    subdomain: Name | None = None
    website_section: Name | None = None
    item_name: Name | None = None
    insight_id: Name | None = None
    end_time: ZonedTime | None = None
    duration_ms: Count | None = None
    heartbeat_until: ZonedTime | None = None
    items_discovered: Count | None = None
    items_succeeded: Count | None = None
    items_failed: Count | None = None
    items_skipped: Count | None = None
    input_summary: Text | None = None
    output_summary: Text | None = None
    error_summary: Text | None = None
    error_details: Text | None = None
    source_ref: Name | None = None
    target_ref: Name | None = None
    git_repo: Name | None = None
    git_branch: Name | None = None
    git_run_tag: Name | None = None
    commit_hash: CommitHash | None = None
    commit_source: CommitSource | None = None
    commit_author: Name | None = None
    commit_timestamp: ZonedTime | None = None
    model: Name | None = None
    provider: Name | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    cost_usd: Decimal | None = None
    """US dollars, at least 0 and below 10**9, kept to nine decimals."""
    trace_id: Name | None = None
    span_id: Name | None = None
    metrics_json: JsonMap | None = None
    context_json: JsonMap | None = None


class RunStarted(
    Updatable, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="kind", tag="run.started"
):
    """A run exists. `event_id` is the idempotency key and, from then on, the run's own key."""

    event_id: UUID
    run_id: RequiredName
    agent_name: RequiredName
    job_type: RequiredName
    start_time: ZonedTime
    parent_run_id: Name | None = None
    status: StatusOrAlias | None = None


class RunUpdated(
    Updatable, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="kind", tag="run.updated"
):
    """Some fields of a run changed. `event_id` is this message's own key, `run_event_id` the run's."""

    event_id: UUID
    run_event_id: UUID
    ts: ZonedTime
    status: Status | None = None


class CommitAssociated(
    Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="kind", tag="commit.associated"
):
    """A commit came of a run. The latest one is the run's commit; all of them stay in its history."""

    event_id: UUID
    run_event_id: UUID
    ts: ZonedTime
    commit_hash: CommitHash
    commit_source: CommitSource
    commit_author: Name | None = None
    commit_timestamp: ZonedTime | None = None


class RunEvent(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="kind", tag="run.event"):
    """Something happened in a run: a log line, a call, a step.

    Without `run_event_id` it belongs to the most recently created run of that `run_id`.
    """

    event_id: UUID
    run_id: RequiredName
    ts: ZonedTime
    type: RequiredName
    payload: JsonMap | None = None
    run_event_id: UUID | None = None
    trace_id: Name | None = None
    span_id: Name | None = None
    parent_span_id: Name | None = None
    prev_hash: Name | None = None
    event_hash: Name | None = None


Message = RunStarted | RunUpdated | CommitAssociated | RunEvent


def message_time(message: Message) -> datetime:
    """The time that every copy of a message carries: the start of a `run.started`, else its `ts`."""
    return message.start_time if isinstance(message, RunStarted) else message.ts


def home_run(message: Message) -> UUID | str:
    """What decides a message's home worker: its run's key, or the `run_id` of an event that has no key."""
    match message:
        case RunStarted():
            return message.event_id
        case RunEvent():
            return message.run_event_id or message.run_id
        case _:
            return message.run_event_id
