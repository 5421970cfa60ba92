"""Takes out of the read model what the feed told and the lake will never have: the last messages of a worker that was
retired without its journal.

At a change of the list of workers all of them have brought all that they had to the lake, and go on with greater
numbers. Whose numbers in the lake go on further than they reached, and of whom the feed had told more than that, has
lost it. The runs that it was about are folded anew from the lake. Until then nothing behind the change has been applied
(`logorder.py`), so that all that is to be folded is in the lake.
"""

from __future__ import annotations

from uuid import UUID

from runlake.sqlfile import load_queries
from runlake_query.apply import Applier
from runlake_query.applystatements import RECOUNT_UNSTARTED

_SQL = load_queries("runlake_query", "lostfeed.sql")


def forget_lost(applier: Applier, worker: UUID, lake: str) -> int:
    """Go back to what the lake has confirmed of a worker, by the copy of it that is attached as `lake`; returns how
    many runs were folded anew. Raises duckdb.Error."""
    stored = applier.stored(worker)
    of_worker = {"worker": str(worker), "after": stored.lake_seq}
    with applier.transaction() as cursor:
        cursor.execute(_SQL["runs"], of_worker | {"upto": stored.seq})
        cursor.execute(_SQL["loose"], of_worker)
        ((runs,),) = cursor.execute("SELECT count(*) FROM lost_runs").fetchall()
        applier.refold(lake, "SELECT event_id FROM lost_runs")
        for name in ("drop_events", "drop_associations"):
            cursor.execute(_SQL[name], of_worker)
        cursor.execute(_SQL["drop_loose_events"])
        cursor.execute(_SQL["count_loose_events"].format(lake=lake))
        cursor.execute(_SQL["drop_deliveries"], {"worker": str(worker), "segment": stored.segment})
        for statement in (*RECOUNT_UNSTARTED, "DROP TABLE lost_runs", "DROP TABLE lost_names"):
            cursor.execute(statement)
        applier.go_back(worker)
    return int(runs)
