"""Files that rot on the disk: damage is found and told, what is sound goes on, and nothing damaged is served."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from faults.damage import DAMAGES, Damage
from faults.faultlayer import Calls
from faults.faults import LAKE
from faults.oracle import judge
from faults.world import DEADLINE_S, Ear, World, compared
from runlake.lake import duck
from runlake.lake.sqlitecatalog import attach_copy
from support.processes import wait_until
from support.producer import Producer
from support.samples import event, events

BATCHES = 40
MESSAGES = BATCHES * 5


@pytest.fixture
def journal(make_world: Callable[..., World]) -> tuple[World, list[Path]]:
    """A world whose worker was killed with a journal of several segments; each group is a batch of numbered events."""
    world = make_world("--flush-interval-ms", "10")
    ingest = world.start_ingest()
    no_disk = 5
    with world.layer.failing(Calls.WRITE, LAKE, no_disk), Producer(world.site.ingest_endpoint) as producer:
        for batch in range(BATCHES):
            producer.deliver(events(5, first=batch * 5))
            if batch == BATCHES // 2:  # from here on there is a segment that waits for the lake, and an open one
                ingest.wait_for("lake_unavailable")
        ingest.kill()
    segments = sorted((world.site.data / "ingest" / "journal").glob("*.ndjson"))
    assert len(segments) > 1
    return world, segments


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_journal_that_rots_costs_the_damaged_groups_alone(
    damage: Damage, journal: tuple[World, list[Path]], rng: random.Random
) -> None:
    world, segments = journal
    segment = rng.choice(segments)
    groups = {path: _groups(path.read_bytes()) for path in segments}
    assert [number for found in groups.values() for group in found for number in group.numbers] == [*range(MESSAGES)]
    begin, end = damage(segment, rng)
    print(f"damaged: {segment.name}, bytes {begin} to {end}")
    sound = [
        number
        for path, found in groups.items()
        for group in found
        if path != segment or group.end <= begin or end <= group.begin
        for number in group.numbers
    ]
    assert len(sound) < MESSAGES
    ingest = world.start_ingest()
    told = {line["event"] for line in ingest.log}
    assert "journal_corrupt" in told or (segment == segments[-1] and "journal_tail_cut" in told)
    assert len(list((world.site.data / "ingest" / "aside").iterdir())) == 1
    with Producer(world.site.ingest_endpoint) as producer:
        assert producer.deliver([event(MESSAGES)]).accepted == 1
    world.stop_ingest()
    assert _stored(world) == [*sound, MESSAGES]


def test_a_read_model_that_rots_is_built_anew_and_never_served(make_world: Callable[..., World]) -> None:
    world = make_world("--flush-interval-ms", "100")
    world.begin(2_000)
    world.finish_producers()
    assert world.query is not None and world.query.terminate() == 0
    damage = world.dice.choice(DAMAGES)
    print(damage.__name__, damage(world.site.data / "query" / "model.duckdb", world.dice))
    for _ in range(3):
        query = world.start_query(ready=False)
        ear = Ear(query, past=True)
        wait_until(lambda: query.ended or ear.hears("caught_up") is not None, "it serves, or ends", DEADLINE_S)  # noqa: B023
        if not query.ended:
            report = world.verify()
            if compared(report):
                assert report["wrong"] == 0, report
                break
            assert not any(check["wrong"] for check in report["checks"] if check["name"] != "read model"), report
        assert query.wait(DEADLINE_S) == 1  # the damage was met in use, and the next start builds anew
        assert ear.hears("read_model_damaged"), "".join(query.text)
    assert query.terminate() == 0
    world.stop_ingest()
    judge(world.facts(), 2_000)


class _Group(NamedTuple):
    begin: int
    end: int
    numbers: list[int]


def _groups(content: bytes) -> list[_Group]:
    """The groups of a sound segment, read in the plainest way."""
    groups: list[_Group] = []
    numbers: list[int] = []
    begin = at = 0
    for line in content.splitlines(keepends=True):
        at += len(line)
        if b'"number":' in line:
            numbers.append(msgspec.json.decode(line)["payload"]["number"])
        if line.startswith(b'{"kind":"group"'):
            groups.append(_Group(begin, at, numbers))
            begin, numbers = at, []
    return groups


def _stored(world: World) -> list[int]:
    connection = duck.connect()
    try:
        attach_copy(connection, world.site.catalog)
        rows = connection.execute("SELECT (payload->>'number')::BIGINT FROM lake.events ORDER BY 1").fetchall()
        return [number for (number,) in rows]
    finally:
        connection.close()
