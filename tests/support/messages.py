"""Hypothesis strategies that make messages a worker accepts: all four kinds, with every field in every range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, get_args
from uuid import UUID

from hypothesis import strategies as st

from runlake.messages import (
    MAX_COUNT,
    MAX_NAME_CHARS,
    CommitAssociated,
    CommitSource,
    Message,
    RunEvent,
    RunStarted,
    RunUpdated,
    Status,
    StatusOrAlias,
)

NOW = datetime(2026, 1, 28, 12, 0, tzinfo=UTC)
"""The time at which these messages are valid."""

_TEXT = st.characters(codec="utf-8")  # a lone surrogate is no text that UTF-8 can carry


_NAMES = (
    "trigger_type environment host product product_family platform website subdomain website_section item_name"
    " insight_id source_ref target_ref git_repo git_branch git_run_tag commit_author model provider trace_id span_id"
)
_TEXTS = "input_summary output_summary error_summary error_details"
_TIMES = "end_time heartbeat_until commit_timestamp"
_COUNTS = (
    "duration_ms items_discovered items_succeeded items_failed items_skipped input_tokens output_tokens"
    " cache_read_tokens cache_write_tokens"
)
NAME_FIELDS, TEXT_FIELDS, TIME_FIELDS, COUNT_FIELDS = (group.split() for group in (_NAMES, _TEXTS, _TIMES, _COUNTS))
"""The run fields that any change may set, by their type."""


def _updatable() -> dict[str, st.SearchStrategy[Any]]:
    fields: dict[str, st.SearchStrategy[Any]] = {}
    groups = ((NAME_FIELDS, names()), (TEXT_FIELDS, texts()), (TIME_FIELDS, times()), (COUNT_FIELDS, counts()))
    for group, strategy in groups:
        fields |= dict.fromkeys(group, strategy)
    fields["metrics_json"] = fields["context_json"] = maps()
    fields["commit_hash"] = commit_hashes()
    fields["commit_source"] = st.sampled_from(get_args(CommitSource))
    fields["cost_usd"] = costs()
    return fields


def uuids() -> st.SearchStrategy[UUID]:
    return st.uuids()


def names(min_size: int = 0) -> st.SearchStrategy[str]:
    """Short names mostly, and now and then one as long as is allowed."""
    usual = st.text(_TEXT, min_size=min_size, max_size=12)
    return st.one_of(usual, usual, st.sampled_from(["é" * MAX_NAME_CHARS, "\x00", "{\"a\": '1'}\n"]))


def texts() -> st.SearchStrategy[str]:
    return st.text(_TEXT, max_size=40)


def times() -> st.SearchStrategy[datetime]:
    """Times with all kinds of whole-minute offsets (RFC 3339 has no others), from 1970 to a day ahead of NOW."""
    offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
    zones = st.one_of(st.just(UTC), offsets)
    last = (NOW + timedelta(hours=24)).replace(tzinfo=None)
    instants = st.datetimes(datetime(1970, 1, 1), last, timezones=st.just(UTC))
    return st.builds(lambda instant, zone: instant.astimezone(zone), instants, zones)


def counts() -> st.SearchStrategy[int]:
    return st.one_of(st.integers(0, 1000), st.sampled_from([0, MAX_COUNT]))


def costs() -> st.SearchStrategy[Decimal]:
    return st.decimals(0, Decimal("999999999.999999999"), places=9, allow_nan=False, allow_infinity=False)


def commit_hashes() -> st.SearchStrategy[str]:
    return st.from_regex(r"[0-9A-Za-z]{7,40}", fullmatch=True)


def maps() -> st.SearchStrategy[dict[str, Any]]:
    """Free-form maps of what MessagePack gives back as it was put in."""
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False),
        st.text(_TEXT, max_size=8),
        st.binary(max_size=8),
    )
    values = st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(_TEXT, max_size=5), inner, max_size=3)
        ),
        max_leaves=6,
    )
    return st.dictionaries(st.text(_TEXT, max_size=5), values, max_size=4)


def runs_started() -> st.SearchStrategy[RunStarted]:
    return _build(
        RunStarted,
        required={
            "event_id": uuids(),
            "run_id": names(1),
            "agent_name": names(1),
            "job_type": names(1),
            "start_time": times(),
        },
        optional=_updatable() | {"parent_run_id": names(), "status": st.sampled_from(get_args(StatusOrAlias))},
    )


def runs_updated() -> st.SearchStrategy[RunUpdated]:
    return _build(
        RunUpdated,
        required={"event_id": uuids(), "run_event_id": uuids(), "ts": times()},
        optional=_updatable() | {"status": st.sampled_from(get_args(Status))},
    )


def commits_associated() -> st.SearchStrategy[CommitAssociated]:
    return _build(
        CommitAssociated,
        required={
            "event_id": uuids(),
            "run_event_id": uuids(),
            "ts": times(),
            "commit_hash": commit_hashes(),
            "commit_source": st.sampled_from(get_args(CommitSource)),
        },
        optional={"commit_author": names(), "commit_timestamp": times()},
    )


def run_events() -> st.SearchStrategy[RunEvent]:
    return _build(
        RunEvent,
        required={"event_id": uuids(), "run_id": names(1), "ts": times(), "type": names(1)},
        optional={"payload": maps(), "run_event_id": uuids()}
        | dict.fromkeys(["trace_id", "span_id", "parent_span_id", "prev_hash", "event_hash"], names()),
    )


def messages() -> st.SearchStrategy[Message]:
    """A valid message of any kind."""
    return st.one_of(runs_started(), runs_updated(), commits_associated(), run_events())


def _build(
    kind: type[Any], required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[Any]:
    """A few optional fields at a time: a message with all forty would be slow to make and slow to shrink."""
    chosen = st.sets(st.sampled_from(sorted(optional)), max_size=6)
    return chosen.flatmap(
        lambda names: st.fixed_dictionaries(required | {name: optional[name] for name in sorted(names)})
    ).map(lambda values: kind(**values))
