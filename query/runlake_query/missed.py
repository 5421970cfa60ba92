"""What a stream that is resumed has missed: from the read model, and from the lake what is older than its window."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from runlake.sqlfile import load_queries
from runlake_query.events import EVENT
from runlake_query.positions import Positions, format_positions
from runlake_query.reader import Snapshot
from runlake_query.runs import RUN
from runlake_query.sse import frame
from runlake_query.streambatch import Filter, Selection
from runlake_query.streamframes import Frame

_SQL = load_queries("runlake_query", "stream.sql")
MAX_MISSED = 10_000
"""Frames that are sent again at most; who has missed more is told so."""
_RUNS_AT_ONCE = 100_000
"""Of how many runs, at most, it is asked at a time whether they pass a filter."""


def missed(snapshot: Snapshot, selection: Selection, condition: Filter | None, since: Positions) -> list[Frame] | None:
    """The frames of `selection` after `since`, up to what the snapshot reflects; None when they are too many.

    Of a run there is its state as it is now, once. Needs a snapshot with the lake.
    """
    values: dict[str, Any] = {
        "workers": [str(worker) for worker in since],
        "seqs": list(since.values()),
        "limit": MAX_MISSED + 1,
    }
    found: list[tuple[str, int, str, str, str, str]] = []
    where, bound = (condition.sql, condition.values) if condition else ("true", {})
    if selection.run is None and selection.type is None:
        rows = snapshot.rows(_SQL["runs"].format(run=RUN, where=where), {**values, **bound})
        found += [("run", seq, worker, event_id, run_id, body) for worker, seq, event_id, run_id, body in rows]
    values["type"] = selection.type
    if selection.run is not None:
        of_run = _SQL["of_run"]
        bound = {"run": str(selection.run), "loose": selection.run_id}
    else:
        of_run = _SQL["of_filter"].format(where=where) if condition else "true"
    query = _SQL["events"].format(event=EVENT, source=_SQL["recent"], of_run=of_run)
    rows = snapshot.rows(query, {**values, **bound})
    older = _older(snapshot, selection, condition, values)
    if older is None:
        return None
    rows += older
    found += [("event", seq, worker, event_id or "", run_id, body) for worker, seq, event_id, run_id, body in rows]
    if len(found) > MAX_MISSED:
        return None
    found.sort(key=lambda row: (row[2], row[1]))
    at = dict(since)
    frames = []
    for kind, seq, worker, event_id, run_id, body in found:
        at[UUID(worker)] = max(seq, at.get(UUID(worker), 0))
        frames.append(Frame(UUID(worker), seq, (event_id, run_id), kind, frame(kind, body, format_positions(at))))
    return frames


def _older(
    snapshot: Snapshot, selection: Selection, condition: Filter | None, values: dict[str, Any]
) -> list[tuple[Any, ...]] | None:
    """What of them the lake alone has; it is asked without the read model, which says of which runs a filter leaves
    them. None when those are too many."""
    (since,) = snapshot.one(_SQL["window_since"])
    followed = {f"followed_{name}": positions for name, positions in snapshot.followed().items()}
    values = {**values, **followed, "window_since": since}
    source = _SQL["older"].format(lake=snapshot.lake)
    of_run = "true"
    if selection.run is not None:
        of_run = _SQL["of_run"]
        values |= {"run": str(selection.run), "loose": selection.run_id}
    elif condition is not None:
        runs = _runs_of_older(snapshot, condition, source, values)
        if len(runs) > MAX_MISSED:
            return None
        if not runs:
            return []
        of_run = _SQL["of_runs"]
        values["runs"] = runs
    return snapshot.lake_rows(_SQL["events"].format(event=EVENT, source=source, of_run=of_run), values)


def _runs_of_older(snapshot: Snapshot, condition: Filter, source: str, values: dict[str, Any]) -> list[str]:
    """The runs that pass a filter and have such events; some of them, when they are more than MAX_MISSED."""
    passing = _SQL["passing"].format(where=condition.sql)
    query = _SQL["older_runs"].format(source=source)
    asked = {name: value for name, value in values.items() if name != "limit"}
    found: list[str] = []
    for batch in snapshot.lake_batches(query, asked, _RUNS_AT_ONCE):
        runs = [run for (run,) in batch]
        found += [run for (run,) in snapshot.rows(passing, {"runs": runs, **condition.values})]
        if len(found) > MAX_MISSED:
            break
    return found
