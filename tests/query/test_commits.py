"""Commits that the read model knows of and the lake does not yet."""

from __future__ import annotations

from msgspec import structs

from runlake import wire
from runlake.messages import RunStarted
from support.api import Start
from support.processes import Site
from support.producer import Producer
from support.samples import started

_NEVER = ("--flush-interval-ms", "600000")


def made(name: str, commit: str) -> RunStarted:
    return structs.replace(started(name), commit_hash=commit)


def test_a_commit_is_found_before_the_lake_has_it(site: Site, start: Start) -> None:
    with site.ingest(*_NEVER), Producer(site.ingest_endpoint) as producer:
        process, api = start()
        process.wait_for("feed_heard")
        producer.deliver([made("in-the-lake", "a" * 40), made("too", "a" * 40)])
        producer.flush()
        ack = producer.deliver([made("not-yet", "b" * 40), made("nor-this", "a" * 40)])
        assert isinstance(ack, wire.Ack)
        after = f"{ack.worker}:{ack.first_seq + ack.accepted - 1}"
        for commit, names in (("bbbb", {"not-yet"}), ("aaaa", {"in-the-lake", "too", "nor-this"})):
            runs = api.ok(f"/api/v1/commits/{commit}/runs", after=after)["runs"]
            assert {item["run"]["run_id"] for item in runs} == names
        assert producer.position().flushed == ack.first_seq - 1
