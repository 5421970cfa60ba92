"""Figures: one JSON line each, with the facts of the machine that they hold for."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import duckdb
import msgspec
import zmq


def machine() -> dict[str, Any]:
    """What a figure depends on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "load_1m": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "pyzmq": zmq.__version__,
        "kernel": platform.release(),
    }


def figure(name: str, value: float, unit: str, **facts: Any) -> None:
    """Print one figure."""
    line = {"figure": name, "value": round(value, 3), "unit": unit, **facts, "machine": machine()}
    print(msgspec.json.encode(line).decode(), flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` from 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
