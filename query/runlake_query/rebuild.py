"""`python -m runlake_query.rebuild`: makes the read model anew from the lake, for `runlake rebuild`.

The new one is made beside the old one, which stays until the new one has all that the lake has; then it takes its place
in one step. Prints lines of JSON: `{"done"}` in messages as it goes, and `{"positions"}` at the end; or
`{"error"}`, with exit status 1.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from runlake.errors import RunLakeError
from runlake.lake.durability import sync_file, sync_folder
from runlake.logs import Log
from runlake.settings import Settings, add_flags, from_arguments
from runlake_query.copies import Copies
from runlake_query.folder import Folder
from runlake_query.follower import Follower
from runlake_query.model import open_model
from runlake_query.progress import Progress

_LOOK_S = 0.1
_SPAN_MESSAGES = 250_000


def main(argv: Sequence[str] | None = None) -> int:
    """Make it. Exit status: 0 done, 1 it cannot be done; the old one is there then."""
    parser = argparse.ArgumentParser(prog="runlake rebuild")
    add_flags(parser, "data", "catalog", "storage", "read_model", "recent_days", "log_level")
    try:
        settings = from_arguments(parser.parse_args(argv))
        folder = Folder(settings.read_model)
        try:
            positions = _make(settings, folder)
        finally:
            folder.close()
    except (RunLakeError, OSError) as error:
        _say({"error": str(error)})
        return 1
    _say({"positions": positions})
    return 0


def _make(settings: Settings, folder: Folder) -> dict[str, int]:
    """Make the new one and put it in the place of the old one; returns what it reflects."""
    making = folder.path / "rebuilding"
    if making.exists():
        shutil.rmtree(making)
    new = Folder(making)
    try:
        positions = _fill(settings, new)
        sync_file(new.model)
        new.model.replace(folder.model)
        for leftover in (folder.model.with_name(f"{folder.model.name}.wal"), folder.path / "feed.log"):
            leftover.unlink(missing_ok=True)
        folder.rebuild_mark.unlink(missing_ok=True)
        sync_folder(folder.path)
        return positions
    finally:
        new.close()
        shutil.rmtree(making, ignore_errors=True)


def _fill(settings: Settings, folder: Folder) -> dict[str, int]:
    log = Log("rebuild", settings.log_level)
    window = timedelta(days=settings.recent_days)
    model = open_model(folder, _utcnow() - window, log)
    copies = Copies(folder, model.cursor())
    progress = Progress()
    damaged = threading.Event()
    follower = Follower(
        place=settings.lake, folder=folder, model=model, copies=copies, progress=progress, log=log,
        refresh_s=settings.refresh_ms / 1000, window=window, utcnow=_utcnow, on_damage=damaged.set,
        span_messages=_SPAN_MESSAGES,
    )  # fmt: skip
    follower.start()
    try:
        pause = threading.Event()
        while not progress.state.caught_up and not damaged.is_set():
            if progress.state.failures:
                raise RunLakeError(progress.state.reason)
            _say({"done": sum(progress.positions.values())})
            pause.wait(_LOOK_S)
        if damaged.is_set():
            raise RunLakeError("The new read model was found damaged while it was made; look at the disk.")
        return {str(worker): seq for worker, seq in progress.positions.items()}
    finally:
        follower.stop()
        copies.close()
        model.close()


def _say(fact: dict[str, object]) -> None:
    sys.stdout.write(msgspec.json.encode(fact).decode() + "\n")
    sys.stdout.flush()


def _utcnow() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
