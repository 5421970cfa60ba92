"""Whether the others have gone on without what the journal of a worker holds."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import duckdb

from runlake.errors import LakeError, LakeUnavailable
from runlake.lake.attach import CATALOG, read_lake
from runlake.lake.place import LakePlace
from runlake.lake.saidsince import given_up
from runlake_ingest.journal import scan_segment, segment_files


def refuse_given_up(place: LakePlace, worker: UUID, journal: Path) -> None:
    """Raise LakeError when messages of this journal have lost their numbers: the list of workers changed without them.
    Nothing of it is touched. Raises LakeUnavailable."""
    groups = [group for path in segment_files(journal) for group, _, _ in scan_segment(path).groups]
    spans = ((group.first_seq, group.last_seq) for group in groups if group.worker == worker)
    try:
        with read_lake(place) as connection:
            found = given_up(connection, CATALOG, worker, spans)
    except duckdb.Error as error:
        raise LakeUnavailable(f"What the workers have flushed cannot be read: {error}") from error
    if found is not None and found[1] is not None:
        raise LakeError(
            f"The workers have gone on without what {journal} holds: worker {worker} was retired without it. Its"
            f" messages from {found[0]:,} on have no place in the log any more, and come as new ones, each once:"
            f" `runlake replay --journal {journal} --to ENDPOINT`."
        )
