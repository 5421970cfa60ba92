"""A lake under many small flushes, with maintenance on and a query process beside it: does it stay as small and as fast
as it was?

Figures are taken at a twentieth of the way, a quarter, half, and the end: where there is a plateau they agree. What was
replaced is kept for `KEEP_S` here and an hour by default, which makes the plateau that much higher: files on disk and
the catalog are about as large as the flushes of that time make them. Each flush is of a run and an event of it: so what
grows with the runs, and is to, is the read model and a little of each answer.
"""

from __future__ import annotations

import tempfile
from collections import deque
from itertools import pairwise
from pathlib import Path
from time import perf_counter

from benchmarks.figures import figure, percentile
from runlake.lake import duck
from runlake.lake.sqlitecatalog import SqliteWatch, attach_copy
from support.api import Api
from support.processes import Process, Site
from support.producer import Producer
from support.resident import resident_mib
from support.samples import event, started

KEEP_S = 5
_ANSWERS = 100


def run(short: bool) -> None:
    soak(500 if short else 20_000)


def soak(flushes: int) -> None:
    """So many flushes, and the figures."""
    flags = ("--flush-interval-ms", "600000", "--maintenance-interval-ms", "3000", "--maintenance-keep-s", str(KEEP_S))
    marks = (0, flushes // 20, flushes // 4, flushes // 2, flushes)
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.ingest(*flags) as ingest, Producer(site.ingest_endpoint) as producer:
            query, url = site.query()
            with query:
                for first, last in pairwise(marks):
                    took = _flush(producer, first, last, keep=flushes // 20)
                    _tell(site, ingest, query, Api(url), flushes, last, took)
                assert query.terminate() == 0
            assert ingest.terminate() == 0


def _flush(producer: Producer, first: int, last: int, keep: int) -> list[float]:
    """Flush one run and one event at a time; returns how long the last ones took, milliseconds."""
    took: deque[float] = deque(maxlen=keep)
    for number in range(first, last):
        producer.deliver([started(f"run-{number}"), event(number)])
        begun = perf_counter()
        producer.flush()
        took.append((perf_counter() - begun) * 1000)
    return list(took)


def _tell(site: Site, ingest: Process, query: Process, api: Api, flushes: int, after: int, took: list[float]) -> None:
    facts = {"flushes": flushes, "after": after, "keep_s": KEEP_S}
    live, view_ms = _read(site)
    figure("soak live files", live, "files", **facts)
    figure("soak files on disk", len(list((site.data / "lake").rglob("*.parquet"))), "files", **facts)
    figure("soak catalog", _size(site.data, f"{site.catalog.name}*") / 1024, "KiB", **facts)
    figure("soak worker RSS", resident_mib(ingest.pid), "MiB", **facts)
    figure("soak query RSS", resident_mib(query.pid), "MiB", **facts)
    figure("soak read model", _size(site.data / "query", "*") / 1024, "KiB", **facts)
    figure("soak flush p50", percentile(took, 0.50), "ms", **facts)
    figure("soak flush p99", percentile(took, 0.99), "ms", **facts)
    figure("soak view runs", view_ms, "ms", **facts)
    for name, path in (("runs", "/api/v1/runs?limit=100"), ("rollup", "/api/v1/rollups?group_by=agent_name")):
        answers = [_answer_ms(api, path) for _ in range(_ANSWERS)]
        figure(f"soak {name} p50", percentile(answers, 0.50), "ms", path=path, **facts)
        figure(f"soak {name} p99", percentile(answers, 0.99), "ms", path=path, **facts)


def _answer_ms(api: Api, path: str) -> float:
    begun = perf_counter()
    api.ok(path)
    return (perf_counter() - begun) * 1000


def _size(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file())


def _read(site: Site) -> tuple[int, float]:
    """How many live files a reader meets, and how long plain DuckDB takes for the view `runs`, attaching included."""
    copy = site.data / "copy.sqlite"
    watch = SqliteWatch(site.catalog)
    watch.copy_to(copy)
    watch.close()
    connection = duck.connect()
    begun = perf_counter()
    attach_copy(connection, copy)
    connection.execute("SELECT agent_name, count(*) FROM lake.runs GROUP BY agent_name").fetchall()
    took = (perf_counter() - begun) * 1000
    row = connection.execute("SELECT sum(file_count)::BIGINT FROM ducklake_table_info('lake')").fetchone()
    connection.close()
    assert row is not None
    return int(row[0]), took
