"""How a run joins the trace of a caller outside of this process (`traceparent.py`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runlake.traceparent import Joined

_environ: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
"""What os.environ looks into: for a name that is not there, it takes as long as all of `run.event`."""
_VARIABLE = "TRACEPARENT" if _environ is os.environ else b"TRACEPARENT"


def process_has_caller() -> bool:
    """Whether the environment names one."""
    return _VARIABLE in _environ


def caller(traceparent: object, tracestate: object) -> Joined | None:
    """The caller that a run was given."""
    from runlake.traceparent import read  # noqa: PLC0415 (only who uses it pays for it)

    return read(traceparent, tracestate)


def caller_of_process() -> Joined | None:
    """The caller that the environment names."""
    from runlake.traceparent import from_environment  # noqa: PLC0415 (only who uses it pays for it)

    return from_environment(os.environ)


def add_caller(joined: Joined, fields: dict[str, Any]) -> None:
    """Add to a run's fields what its caller says: the trace, and the caller's run, or its span when it is no run."""
    fields.setdefault("trace_id", joined.trace_id)
    if joined.run_id is not None:
        fields.setdefault("parent_run_id", joined.run_id)
    else:
        context = fields.get("context_json")
        fields["context_json"] = {
            "parent_span_id": joined.span_id,
            **(context if isinstance(context, Mapping) else {}),
        }
