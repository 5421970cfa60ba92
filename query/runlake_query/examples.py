"""Examples for the OpenAPI document; a test sends them."""

from __future__ import annotations

from typing import Any

from runlake.fields import RUN_FIELD_NAMES

_ID = "01a1f2b0-7c5a-7d11-9c40-3f1de5a0c001"
RUN: dict[str, Any] = {
    "event_id": _ID,
    "run_id": "nightly-2026-01-28",
    "agent_name": "crawler",
    "job_type": "crawl",
    "start_time": "2026-01-28T10:30:00Z",
    "website": "example.org",
    "metrics_json": {"model": "small", "input_tokens": 900},
}
CHANGE: dict[str, Any] = {"status": "success", "end_time": "2026-01-28T10:30:12Z", "items_succeeded": 7}
COMMIT = {"commit_hash": "9fceb02d0ae598e95dc970b74767f19372d61af8", "commit_source": "llm"}
EVENT = {"type": "page", "ts": "2026-01-28T10:30:01Z", "payload": {"url": "/", "status": 200}}
EVENT_SHOWN = {
    "event_id": "01a1f2b0-7c5a-7d11-9c40-3f1de5a0c002",
    "run_id": "nightly-2026-01-28",
    "ts": "2026-01-28T10:30:01Z",
    "type": "page",
    "payload": {"url": "/", "status": 200},
    "trace_id": None,
    "span_id": None,
    "parent_span_id": None,
}
RUN_SHOWN: dict[str, Any] = (
    dict.fromkeys(RUN_FIELD_NAMES)
    | RUN
    | {
        "status": "running",
        "model": "small",
        "input_tokens": 900,
        "created_at": "2026-01-28T10:30:00.004217Z",
        "updated_at": "2026-01-28T10:30:00.004217Z",
    }
)
