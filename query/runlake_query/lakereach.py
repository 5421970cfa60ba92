"""Whether a lake on other machines can be read: what needs it is refused at once, and with a reason, while it cannot.

DuckDB's own connections to a catalog in PostgreSQL have no deadline for an answer, and a read that waits for one cannot
be interrupted. The follower looks at the catalog all the time; so what it knows is asked before a read, and while one
waits.
"""

from __future__ import annotations

from runlake.lake.place import LakePlace
from runlake_query.problems import NotReady
from runlake_query.progress import Progress


class LakeAway(NotReady):
    """What is in the lake alone cannot be told now."""

    def __init__(self) -> None:
        super().__init__(
            "This is answered from the lake, whose catalog or storage cannot be read now. Runs, lists, rollups and"
            " recent events are answered as ever; try again.",
            retry_after_s=5,
        )


class LakeReach:
    """Any thread may ask."""

    def __init__(self, place: LakePlace, progress: Progress) -> None:
        self.remote = place.is_clustered or place.storage_folder is None
        """Whether a read of it may wait for other machines."""
        self._progress = progress

    def check(self) -> None:
        """Raises LakeAway while the follower cannot look at it."""
        state = self._progress.state
        if self.remote and state.caught_up and not state.following:
            raise LakeAway
