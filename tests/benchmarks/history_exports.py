"""Exports of a long history: how fast, and how much memory the query process holds more meanwhile."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from time import perf_counter

import runlake
from benchmarks.figures import figure
from benchmarks.memory import forget_peak, peak_mib
from support.processes import Process

_EXPORTS: tuple[tuple[str, str, str, Mapping[str, str]], ...] = (
    ("runs", "/api/v1/runs", "csv", {}),
    ("runs", "/api/v1/runs", "ndjson", {}),
    ("runs", "/api/v1/runs", "parquet", {}),
    ("events", "/api/v1/events", "ndjson", {}),
    ("rollup", "/api/v1/rollups", "csv", {"group_by": "agent_name,job_type,host", "bucket": "day"}),
)


def measure_exports(process: Process, url: str, runs: int) -> None:
    """One export of everything of each kind, to a file, as `runlake export` makes it."""
    client = runlake.connect(url)
    for name, path, kind, asked in _EXPORTS:
        before = forget_peak(process)
        begun, size = perf_counter(), 0
        with tempfile.TemporaryFile() as file, client.download(path, {**asked, "format": kind}) as download:
            first = perf_counter() - begun
            for piece in download.pieces():
                size += file.write(piece)
            rows = download.rows
        facts = {"runs": runs, "rows": rows, "mib": round(size / 2**20, 1)}
        figure(f"export of {name} as {kind}", perf_counter() - begun, "s", **facts)
        figure(f"export of {name} as {kind}, until the first byte", first, "s", **facts)
        figure(f"export of {name} as {kind}, RSS before", before, "MiB", **facts)
        figure(f"export of {name} as {kind}, highest RSS", peak_mib(process), "MiB", **facts)
