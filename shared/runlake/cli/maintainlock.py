"""Nobody else looks after the lake meanwhile: what `runlake maintain` holds, and a worker does in its cycles."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager

from runlake.cli.failure import CommandFailed
from runlake.settings import Settings

_PATIENCE_S = 30.0
"""For how long to wait for a worker's cycle to end: a few seconds, and one step more."""
_PAUSE_S = 0.2


def alone_with_lake(settings: Settings) -> AbstractContextManager[None]:
    """As long as the block runs nobody else maintains the lake: of one machine, because no worker runs; of a cluster,
    by the lock for which its workers take turns. Raises CommandFailed, LakeError."""
    return _alone_in_cluster(settings) if settings.lake.is_clustered else _alone_in_folder(settings)


@contextmanager
def _alone_in_folder(settings: Settings) -> Iterator[None]:
    settings.ingest_folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(settings.ingest_folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise CommandFailed(
                f"the ingest worker (process {owner}) uses {settings.data}, and looks after the lake by itself; its"
                f" page http://{settings.metrics}/metrics says what it has done. `--dry-run` says what is due; to do it"
                " by hand, stop the worker first."
            ) from None
        yield
    finally:
        os.close(lock)


@contextmanager
def _alone_in_cluster(settings: Settings) -> Iterator[None]:
    from runlake.lake.members import Members, lock_key  # noqa: PLC0415 (an extra)

    deadline = time.monotonic() + _PATIENCE_S
    with closing(Members(settings.lake, "runlake maintain")) as members:
        while not members.try_lock(lock_key("maintenance")):
            if time.monotonic() >= deadline:
                raise CommandFailed(
                    "a worker of the cluster is looking after the lake, as they do by themselves; try again later, or"
                    " see what is due with `--dry-run`."
                )
            time.sleep(_PAUSE_S)
        yield
