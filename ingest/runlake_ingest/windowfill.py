"""The dedupe window as the lake says it is: at the start, and when the list of workers has changed."""

from __future__ import annotations

from collections.abc import Callable

from runlake_ingest.dedupe import Window
from runlake_ingest.lakewriter import LakeReader

_TURN = 100_000


def window_from_lake(
    lake: LakeReader, max_ids: int, segment: int, seq: int, turn: Callable[[], object] = lambda: None
) -> Window:
    """The window of a worker that has flushed all up to this segment and position, by what any worker brought to the
    lake. `turn` is called now and then. Raises LakeUnavailable."""
    horizon, ids = lake.window(max_ids)
    window = Window(max_ids, horizon, segment, seq)
    for number, (event_id, seconds) in enumerate(ids):
        window.admit(event_id, seconds, 0)
        if number % _TURN == 0:
            turn()
    return window
