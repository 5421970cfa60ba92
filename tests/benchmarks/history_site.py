"""Where a long history is: made for one measurement, or kept below the folder that HISTORY_LAKES names."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import msgspec
from msgspec import Struct

from benchmarks.figures import figure
from benchmarks.history_lake import make_history
from support.processes import Site

_LAKES = "HISTORY_LAKES"
_MADE = "made.json"


class Made(Struct, frozen=True):
    """What is known of a kept lake."""

    runs: int
    messages: int
    end: datetime


@contextmanager
def history_site(runs: int) -> Iterator[tuple[Site, datetime]]:
    """A site whose lake has so many runs, and when the last of them starts. Its read model is not there yet."""
    kept = os.environ.get(_LAKES)
    if kept is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield _made(Path(temporary), runs)
        return
    folder = Path(kept) / str(runs)
    found = folder / _MADE
    if found.exists():
        site, end = Site(folder), msgspec.json.decode(found.read_bytes(), type=Made).end
    else:
        folder.mkdir(parents=True, exist_ok=True)
        site, end = _made(folder, runs)
    shutil.rmtree(site.data / "query", ignore_errors=True)
    yield site, end


def _made(folder: Path, runs: int) -> tuple[Site, datetime]:
    site, end = Site(folder), datetime.now(UTC)
    begun = perf_counter()
    messages = make_history(site.data, runs, end)
    figure("history written", perf_counter() - begun, "s", runs=runs, messages=messages)
    (folder / _MADE).write_bytes(msgspec.json.encode(Made(runs, messages, end)))
    return site, end
