"""The fold in plain Python: slow, and plain to see that it is right. The SQL in `lake/fold.sql` must agree with it.

Values are as they are compared: times in microseconds since 1970, UUIDs, costs and JSON as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runlake.fields import CHANGE_FIELDS

COMMIT_DETAILS = ("commit_source", "commit_author", "commit_timestamp")


@dataclass(frozen=True)
class Change:
    """One accepted change of a run, at its place in the log."""

    run: str
    kind: str
    seq: int
    received_at: int
    fields: dict[str, Any] = field(default_factory=dict)


def fold(changes: Sequence[Change]) -> dict[str, dict[str, Any]]:
    """The state of every run that a change speaks of."""
    return {run: _fold_run([change for change in changes if change.run == run]) for run in {c.run for c in changes}}


def _fold_run(changes: Sequence[Change]) -> dict[str, Any]:
    in_order = sorted(changes, key=lambda change: change.seq)
    starts = [change for change in in_order if change.kind == "run.started"]
    updates = [change for change in in_order if change.kind != "run.started"]
    strongest_first = [*reversed(updates), *starts]
    state: dict[str, Any] = {}
    said_by: dict[str, int] = {}  # the place in strongest_first of the change whose word counts
    for name in (column.name for column in CHANGE_FIELDS):
        state[name] = None
        for place, change in enumerate(strongest_first):
            if change.fields.get(name) is not None:
                state[name] = change.fields[name]
                said_by[name] = place
                break
    if "commit_hash" in said_by:
        for name in COMMIT_DETAILS:
            if name in said_by and said_by[name] > said_by["commit_hash"]:
                state[name] = None  # it was said of another commit
    state["created_at"] = starts[0].received_at if starts else None
    state["created_seq"] = starts[0].seq if starts else None
    state["updated_at"] = max(change.received_at for change in changes)
    state["seq"] = in_order[-1].seq
    return state


def present(folded: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The runs as they are shown."""
    shown = {}
    for run, state in folded.items():
        if state["created_at"] is None:
            continue
        row = {name: value for name, value in state.items() if name not in ("created_seq", "seq")}
        start, end = row["start_time"], row["end_time"]
        if row["duration_ms"] is None and start is not None and end is not None and end >= start:
            row["duration_ms"] = (end - start) // 1000
        row["cost_source"] = None if row["cost_usd"] is None else "reported"
        row["cost_table_version"] = None
        shown[run] = row
    return shown
