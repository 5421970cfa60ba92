"""Why a worker knows the id of a run that no answer shows: the run was removed, or the id never was a run's."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from runlake.sqlfile import load_queries
from runlake_query.reader import Snapshot

_SQL = load_queries("runlake_query", "gone.sql")
_FORGOTTEN = "event_id: is of a run that was forgotten"
_OLD = "event_id: is of a run that was removed, because it is older than this lake keeps"
_NO_RUN = "event_id: is the id of another message, which is no run"


def why_not_shown(snapshot: Snapshot, runs: Iterable[UUID]) -> dict[UUID, str]:
    """A reason for each of these, that begins with the field. Reads the lake."""
    wanted = list(runs)
    removed: dict[str, bool] = {}
    ((there,),) = snapshot.lake_rows(_SQL["has_removals"], {"lake": snapshot.lake})
    if there:  # not in a lake of an earlier schema
        query = _SQL["why"].format(lake=snapshot.lake)
        removed = dict(snapshot.lake_rows(query, {"runs": [str(run) for run in wanted]}))
    return {run: _NO_RUN if (why := removed.get(str(run))) is None else _FORGOTTEN if why else _OLD for run in wanted}
