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
    older = _older(snapshot, selection, values)
    if len(older) > MAX_MISSED:
        return None
    if older and condition is not None and selection.run is None:
        runs = [run for run in {row[2] for row in older} if run is not None]
        passing = {run for (run,) in snapshot.rows(_SQL["passing"].format(where=where), {"runs": runs, **bound})}
        older = [row for row in older if row[2] in passing]
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


def _older(snapshot: Snapshot, selection: Selection, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What of them the lake alone has, of any runs that a filter may leave; it is asked without the read model."""
    (since,) = snapshot.one(_SQL["window_since"])
    followed = {f"followed_{name}": positions for name, positions in snapshot.followed().items()}
    values = {**values, **followed, "window_since": since}
    of_run = "true"
    if selection.run is not None:
        of_run = _SQL["of_run"]
        values |= {"run": str(selection.run), "loose": selection.run_id}
    source = _SQL["older"].format(lake=snapshot.lake)
    return snapshot.lake_rows(_SQL["events"].format(event=EVENT, source=source, of_run=of_run), values)
