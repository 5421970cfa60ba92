"""Commits that the read model knows of and the lake does not yet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from msgspec import structs

from runlake import wire
from runlake.messages import CommitAssociated, Message, RunStarted
from support.api import Api, Start
from support.processes import Process, Site
from support.producer import Producer
from support.samples import started

_NEVER = ("--flush-interval-ms", "600000")


def made(name: str, commit: str) -> RunStarted:
    return structs.replace(started(name), commit_hash=commit)


def said(run: UUID, commit: str) -> CommitAssociated:
    return CommitAssociated(
        event_id=uuid4(), run_event_id=run, ts=datetime.now(UTC), commit_hash=commit, commit_source="llm"
    )


def deliver(producer: Producer, messages: list[Message]) -> str:
    """The position of the last of these."""
    ack = producer.deliver(messages)
    assert isinstance(ack, wire.Ack)
    return f"{ack.worker}:{ack.first_seq + ack.accepted - 1}"


def names(answer: Any) -> set[str]:
    return {item["run"]["run_id"] for item in answer["runs"]}


def listening(start: Start) -> tuple[Process, Api]:
    """A query process that hears the feed."""
    process, api = start()
    process.wait_for("feed_heard")
    return process, api


def test_a_commit_is_found_before_the_lake_has_it(site: Site, start: Start) -> None:
    with site.ingest(*_NEVER), Producer(site.ingest_endpoint) as producer:
        _, api = listening(start)
        deliver(producer, [made("in-the-lake", "a" * 40), made("too", "a" * 40)])
        flushed = producer.flush().flushed
        after = deliver(producer, [made("not-yet", "b" * 40), made("nor-this", "a" * 40)])
        for commit, found in (("bbbb", {"not-yet"}), ("aaaa", {"in-the-lake", "too", "nor-this"})):
            assert names(api.ok(f"/api/v1/commits/{commit}/runs", after=after)) == found
        assert producer.position().flushed == flushed


def test_a_commit_whose_run_has_a_later_one_is_found_before_the_lake_has_either(site: Site, start: Start) -> None:
    first, then = "C0ffee00" + "1" * 32, "feedbeef" * 5
    with site.ingest(*_NEVER), Producer(site.ingest_endpoint) as producer:
        process, api = listening(start)
        run = started("corrected")
        after = deliver(producer, [run, said(run.event_id, first), said(run.event_id, then)])

        def shown() -> tuple[Any, Any, Any]:
            for commit in (first, first.lower(), first[:9], then[:7]):
                assert names(api.ok(f"/api/v1/commits/{commit}/runs", after=after)) == {"corrected"}
            commits = api.ok("/api/v1/runs/corrected/commits", after=after)
            assert [one["commit_hash"] for one in commits["associations"]] == [first, then]
            assert api.ok("/api/v1/runs/corrected")["commit_hash"] == then
            return commits, *(api.ok(f"/api/v1/commits/{sha}/runs") for sha in (first, then))

        fed = shown()
        assert producer.position().flushed == 0
        producer.flush()
        assert shown() == fed, "what the lake confirms changes nothing, and doubles nothing"
        assert process.terminate() == 0
        _, api = start("--read-model", str(site.data / "another"))
        assert shown() == fed, "nor does a read model that is made of the lake alone"


def test_the_commits_of_a_run_are_those_of_the_run_that_a_name_means(site: Site, start: Start) -> None:
    with site.ingest(*_NEVER), Producer(site.ingest_endpoint) as producer:
        _, api = listening(start)
        older, newer = made("twice", "1" * 40), made("twice", "2" * 40)
        later = (said(newer.event_id, f"{number:07}") for number in range(3, 6))
        after = deliver(producer, [older, newer, *later])
        path = "/api/v1/runs/{}/commits"
        assert [one["commit_hash"][-1] for one in api.ok(path.format("twice"), after=after)["associations"]] == list(
            "2345"
        )
        assert [one["commit_hash"][-1] for one in api.ok(path.format(older.event_id))["associations"]] == ["1"]
        cut = api.ok(path.format("twice"), limit=2)
        assert (len(cut["associations"]), cut["truncated"], cut["event_id"]) == (2, True, str(newer.event_id))
        assert api.get(path.format("nobody"), after=after).status == 404
        assert api.get(path.format("twice"), depth=1).status == 400
