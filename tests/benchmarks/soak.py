"""A lake under many small flushes, with maintenance on: does it stay as small and as fast as it was?

Figures are taken at a tenth of the way and at the end: where there is a plateau they agree. What was replaced is kept
for `KEEP_S` here and an hour by default, which makes the plateau that much higher: files on disk and the catalog are
about as large as the flushes of that time make them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from time import perf_counter

from benchmarks.figures import figure, percentile
from runlake.lake import attach, duck
from support.processes import Process, Site
from support.producer import Producer
from support.samples import event, started

KEEP_S = 5


def run(short: bool) -> None:
    soak(500 if short else 20_000)


def soak(flushes: int) -> None:
    """So many flushes, and the figures."""
    flags = ("--flush-interval-ms", "600000", "--maintenance-interval-ms", "1000", "--maintenance-keep-s", str(KEEP_S))
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.ingest(*flags) as ingest, Producer(site.ingest_endpoint) as producer:
            for first, last in pairwise((0, flushes // 10, flushes * 9 // 10, flushes)):
                took = list(_flush(producer, last - first))
                if last - first == flushes // 10:
                    _tell(site, ingest, flushes, last, took)
            assert ingest.terminate() == 0


def _flush(producer: Producer, count: int) -> Iterator[float]:
    """Flush one run and one event at a time; gives how long each took, milliseconds."""
    for number in range(count):
        producer.deliver([started(f"run-{number}"), event(number)])
        begun = perf_counter()
        producer.flush()
        yield (perf_counter() - begun) * 1000


def _tell(site: Site, ingest: Process, flushes: int, after: int, took: list[float]) -> None:
    facts = {"flushes": flushes, "after": after, "keep_s": KEEP_S}
    live, view_ms = _read(site)
    figure("soak live files", live, "files", **facts)
    figure("soak files on disk", len(list((site.data / "lake").rglob("*.parquet"))), "files", **facts)
    catalog = sum(path.stat().st_size for path in site.data.glob(f"{site.catalog.name}*"))
    figure("soak catalog", catalog / 1024, "KiB", **facts)
    figure("soak worker RSS", _rss_mib(ingest.pid), "MiB", **facts)
    figure("soak flush p50", percentile(took, 0.50), "ms", **facts)
    figure("soak flush p99", percentile(took, 0.99), "ms", **facts)
    figure("soak view runs", view_ms, "ms", **facts)


def _read(site: Site) -> tuple[int, float]:
    """How many live files a reader meets, and how long plain DuckDB takes for the view `runs`, attaching included."""
    copy = site.data / "copy.sqlite"
    watch = attach.CatalogWatch(site.catalog)
    watch.copy_to(copy)
    watch.close()
    connection = duck.connect()
    begun = perf_counter()
    attach.attach_copy(connection, copy)
    connection.execute("SELECT agent_name, count(*) FROM lake.runs GROUP BY agent_name").fetchall()
    took = (perf_counter() - begun) * 1000
    row = connection.execute("SELECT sum(file_count)::BIGINT FROM ducklake_table_info('lake')").fetchone()
    connection.close()
    assert row is not None
    return int(row[0]), took


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"process {pid} has no VmRSS")
