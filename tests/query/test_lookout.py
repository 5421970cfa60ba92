"""What following the lake costs for each of its versions: nothing that stays."""

from __future__ import annotations

from pathlib import Path

from runlake import wire
from support.models import Model
from support.processes import Site
from support.producer import Producer
from support.samples import started

SOON = ("--flush-interval-ms", "100")


def kept(model: Model) -> int:
    """Bytes that DuckDB keeps of the versions of the lake it was asked about."""
    ((count,),) = model.rows("SELECT sum(memory_usage_bytes)::BIGINT FROM duckdb_memory() WHERE tag = 'OBJECT_CACHE'")
    return int(count)


def follow(model: Model, producer: Producer, versions: range) -> None:
    """Have this many versions of the lake, each with a message that the feed gave before."""
    for number in versions:
        ack = producer.deliver([started(f"run-{number}")])
        assert isinstance(ack, wire.Ack)
        model.confirmed({ack.worker: ack.first_seq})


def test_versions_of_the_lake_that_confirm_the_feed_leave_nothing_in_the_read_models_memory(
    site: Site, tmp_path: Path
) -> None:
    with (
        site.ingest(*SOON),
        Producer(site.ingest_endpoint) as producer,
        Model(site, tmp_path / "model", feed=site.feed_endpoint) as model,
    ):
        follow(model, producer, range(10))
        before = kept(model)
        follow(model, producer, range(10, 30))
        # Each used to leave 127 KB. A few may: those that were in the lake before the feed was applied.
        assert kept(model) - before < 600_000
        assert model.rows("SELECT count(*) FROM runs") == [(30,)]
