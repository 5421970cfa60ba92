"""The HTTP API under load: POST, PATCH, GET of a run and a list, each at 1, 16 and 64 connections."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec

from benchmarks.figures import figure
from support.api import Api
from support.processes import Site

CLIENT = Path(__file__).with_name("http_client.py")
RUNS = 1_000


def run(short: bool) -> None:
    seconds = 0.3 if short else 5.0
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.ingest() as ingest:
            query, url = site.query()
            with query:
                known = Path(folder) / "known"
                known.write_text("\n".join(_make_runs(url)))
                # GET comes first: the runs that it asks for are recent, and thousands of POSTs would push them out.
                for kind in ("GET", "POST", "PATCH", "LIST"):
                    for connections in (1, 16, 64):
                        _measure(url, kind, connections, seconds, known)
                assert query.terminate() == 0
            assert ingest.terminate() == 0


def _make_runs(url: str) -> list[str]:
    ids = [str(uuid4()) for _ in range(RUNS)]
    common = {"agent_name": "bench", "job_type": "http", "start_time": "2026-01-28T10:30:00Z"}
    api = Api(url)
    reply = api.post("/api/v1/runs/batch", {"runs": [{"event_id": key, "run_id": key, **common} for key in ids]})
    assert reply.json["created"] == RUNS
    api.ok("/api/v1/runs")
    api.close()
    return ids


def _measure(url: str, kind: str, connections: int, seconds: float, known: Path) -> None:
    address = urlsplit(url)
    done = subprocess.run(
        [sys.executable, str(CLIENT), str(address.hostname), str(address.port), kind, str(connections), str(seconds),
         str(known)],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    found = msgspec.json.decode(done.stdout)
    assert found["statuses"] == ["201" if kind == "POST" else "200"], found
    facts = {"connections": connections, "answers": found["answers"], "client_cores": round(found["cpu"], 2)}
    figure(f"HTTP {kind}", found["answers"] / found["seconds"], "1/s", **facts)
    for name in ("p50", "p95", "p99"):
        figure(f"HTTP {kind} {name}", found[name], "ms", **facts)
