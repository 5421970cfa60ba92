"""W3C Trace Context (https://www.w3.org/TR/trace-context/): how a run tells child processes and other hosts who it is.

`traceparent` carries the trace and the parent's span; the parent's `run_id`, which the tree of runs is made of, goes in
`tracestate` under the key `runlake`, percent-encoded. In a process's environment the two are `TRACEPARENT` and
`TRACESTATE`, as OpenTelemetry has them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote

PARENT_VARIABLE = "TRACEPARENT"
STATE_VARIABLE = "TRACESTATE"
STATE_KEY = "runlake"
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER = re.compile(r"([a-z0-9][a-z0-9_\-*/@]{0,255})=([ -+\--<>-~]{0,255}[!-+\--<>-~])")
"""As the standard has it: key, and printable ASCII but for comma and equals sign. No line end gets into a header."""
_MAX_READ_CHARS = 8_192
_MAX_MEMBERS = 32
_MAX_VALUE_CHARS = 256
_MAX_STATE_CHARS = 512


class Joined(NamedTuple):
    """What came in: the trace, and its caller in it."""

    trace_id: str
    span_id: str
    flags: str
    run_id: str | None
    """The caller's `run_id`, when the caller was a run."""
    others: str
    """What other systems have in `tracestate`; passed on."""


def read(traceparent: object, tracestate: object = None) -> Joined | None:
    """Read the two headers. None for what is no `traceparent`; what is damaged in `tracestate` is passed over, and all
    of it when it is longer than any that is sent."""
    found = _PARENT.fullmatch(traceparent.strip()) if isinstance(traceparent, str) else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    run_id: str | None = None
    others: list[str] = []
    if isinstance(tracestate, str) and len(tracestate) <= _MAX_READ_CHARS:
        for member in tracestate.split(","):
            known = _MEMBER.fullmatch(member.strip(" \t"))
            if known is not None and known[1] != STATE_KEY:
                others.append(known[0])
            elif known is not None and run_id is None:
                run_id = unquote(known[2])
    return Joined(trace_id, span_id, flags, run_id, ",".join(others))


def from_environment(environ: Mapping[str, str]) -> Joined | None:
    """What the process was started with."""
    traceparent = environ.get(PARENT_VARIABLE)
    return None if not traceparent else read(traceparent, environ.get(STATE_VARIABLE))


def parent(trace_id: str, span_id: str, flags: str) -> str:
    """A `traceparent` of version 00. A trace id that is not of the standard's form is not sent: the text is empty."""
    text = f"00-{trace_id}-{span_id}-{flags}"
    return text if read(text) is not None else ""


def state(run_id: str, others: str) -> str:
    """A `tracestate` with the run's id first and what others had in it. An id longer than the standard allows is left
    out: the trace is joined then, and the tree is not."""
    value = quote(run_id, safe="")
    members = [f"{STATE_KEY}={value}"] if len(value) <= _MAX_VALUE_CHARS else []
    size = sum(map(len, members))
    for member in others.split(",") if others else ():
        size += len(member) + 1
        if size > _MAX_STATE_CHARS or len(members) >= _MAX_MEMBERS:
            break
        members.append(member)
    return ",".join(members)
