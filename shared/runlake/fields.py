"""The run fields: one table that the lake's columns, the fold, the read model and the API are made from or tested by.

Messages spell the same fields out as typed structs (`messages.py`), so that editors and type checkers see them; a test
holds the two together.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Role(Enum):
    """Who may set a field, and when."""

    IDENTITY = "identity"  # given by the run.started, fixed from then on
    UPDATABLE = "updatable"  # given by a run.started and by any change
    SYSTEM = "system"  # set by RunLake


class Field(NamedTuple):
    name: str
    sql_type: str
    role: Role


def _fields(sql_type: str, role: Role, names: str) -> tuple[Field, ...]:
    return tuple(Field(name, sql_type, role) for name in names.split())


RUN_FIELDS: tuple[Field, ...] = (
    *_fields("UUID", Role.IDENTITY, "event_id"),
    *_fields("VARCHAR", Role.IDENTITY, "run_id parent_run_id agent_name job_type"),
    *_fields("VARCHAR", Role.UPDATABLE, "trigger_type environment host"),
    *_fields("VARCHAR", Role.UPDATABLE, "product product_family platform website subdomain website_section"),
    *_fields("VARCHAR", Role.UPDATABLE, "item_name insight_id status"),
    *_fields("TIMESTAMPTZ", Role.IDENTITY, "start_time"),
    *_fields("TIMESTAMPTZ", Role.UPDATABLE, "end_time"),
    *_fields("BIGINT", Role.UPDATABLE, "duration_ms"),
    *_fields("TIMESTAMPTZ", Role.UPDATABLE, "heartbeat_until"),
    *_fields("BIGINT", Role.UPDATABLE, "items_discovered items_succeeded items_failed items_skipped"),
    *_fields("VARCHAR", Role.UPDATABLE, "input_summary output_summary error_summary error_details"),
    *_fields("VARCHAR", Role.UPDATABLE, "source_ref target_ref git_repo git_branch git_run_tag"),
    *_fields("VARCHAR", Role.UPDATABLE, "commit_hash commit_source commit_author"),
    *_fields("TIMESTAMPTZ", Role.UPDATABLE, "commit_timestamp"),
    *_fields("VARCHAR", Role.UPDATABLE, "model provider"),
    *_fields("BIGINT", Role.UPDATABLE, "input_tokens output_tokens cache_read_tokens cache_write_tokens"),
    *_fields("DECIMAL(18,9)", Role.UPDATABLE, "cost_usd"),
    *_fields("VARCHAR", Role.UPDATABLE, "trace_id span_id"),
    *_fields("JSON", Role.UPDATABLE, "metrics_json context_json"),
    *_fields("TIMESTAMPTZ", Role.SYSTEM, "created_at updated_at"),
    *_fields("VARCHAR", Role.SYSTEM, "cost_source cost_table_version"),
)

RUN_FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in RUN_FIELDS)

CHANGE_FIELDS: tuple[Field, ...] = tuple(
    field for field in RUN_FIELDS if field.role is not Role.SYSTEM and field.name != "event_id"
)
"""The fields that a change can set: the sparse columns of `run_changes`."""

DIMENSIONS: tuple[str, ...] = (
    "agent_name",
    "job_type",
    "status",
    "product",
    "product_family",
    "platform",
    "website",
    "subdomain",
    "website_section",
    "environment",
    "host",
    "trigger_type",
    "parent_run_id",
    "git_repo",
    "git_branch",
    "commit_hash",
    "model",
    "provider",
    "insight_id",
)
"""Run fields that lists are filtered by (repeatable: any of the values) and rollups grouped by."""
