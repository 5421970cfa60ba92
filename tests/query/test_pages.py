"""The first page of a list: looked for from where it ended last, its runs taken from memory; neither may show."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from runlake_query.filters import Where
from runlake_query.newest import NewestPages, Place
from runlake_query.parameters import Parameters
from runlake_query.positions import Positions
from runlake_query.reader import Snapshot
from runlake_query.runs import LIST_PARAMETERS, LIST_REPEATABLE, ListMemory, list_runs
from runlake_query.starttimes import StartTimes
from runlake_query.totals import Totals
from support.lakes import LakeWriter, Worker
from support.models import Model

QUERIES: list[list[tuple[str, str]]] = [
    [],
    [("limit", "3")],
    [("limit", "3"), ("status", "running")],
    [("limit", "2"), ("status", "success"), ("agent_name", "b")],
    [("limit", "1"), ("q", "it's")],
    [("limit", "5"), ("offset", "2")],
    [("limit", "1000")],
]


LATER_PAGES = [[("limit", "4")], [("limit", "3"), ("agent_name", "a")], [("limit", "1"), ("status", "running")]]


@pytest.mark.parametrize("starts", [StartTimes(), StartTimes(least_runs=1, percent=100)])
@pytest.mark.parametrize("seed", range(2))
async def test_a_list_is_the_same_with_and_without_what_is_kept_of_it(
    lake: LakeWriter, tmp_path: Path, seed: int, starts: StartTimes
) -> None:
    dice, worker, keys = random.Random(seed), Worker(), list[UUID]()
    given: list[int] = []
    with Model(lake, tmp_path / "model") as model:

        def bodies(event_ids: Sequence[UUID], positions: Positions) -> Mapping[UUID, bytes]:
            found = model.recent.bodies(event_ids, positions)
            given.append(len(found))
            return found

        memory = ListMemory(Totals(), NewestPages(), starts, bodies)

        def both(snapshot: Snapshot) -> list[tuple[bytes, bytes]]:
            asked = [Parameters(query, LIST_PARAMETERS, LIST_REPEATABLE) for query in QUERIES]
            for query in LATER_PAGES:
                page = msgspec.json.decode(list_runs(snapshot, Parameters(query, LIST_PARAMETERS, LIST_REPEATABLE)))
                if page["next_cursor"]:
                    later = [*query, ("cursor", page["next_cursor"])]
                    asked.append(Parameters(later, LIST_PARAMETERS, LIST_REPEATABLE))
            return [(list_runs(snapshot, one, memory), list_runs(snapshot, one)) for one in asked]

        for _ in range(8):
            for _ in range(dice.randrange(1, 6)):
                start = f"2026-01-28T10:{dice.randrange(3):02}:00Z"  # several start together
                name = dice.choice(("r", "it's"))
                keys.append(worker.start(name, agent_name=dice.choice("ab"), start_time=start, status="running"))
            for key in dice.sample(keys, dice.choice((1, len(keys)))):  # when all change, pages lose most of their runs
                worker.update(key, status=dice.choice(("running", "success")), items_failed=dice.randrange(9))
            lake.flush(worker)
            model.caught_up(worker)
            pages = await model.reader.read(both)
            assert [with_memory for with_memory, _ in pages] == [without for _, without in pages]
            for first_page, _ in pages[: len(QUERIES)]:
                found = msgspec.json.decode(first_page)
                assert len(found["runs"]) == min(found["limit"], max(0, found["total"] - found["offset"]))
    assert max(given) > 2, "runs came from memory"


async def test_a_page_is_found_in_a_stretch_of_a_long_history_or_in_all_of_it(lake: LakeWriter, tmp_path: Path) -> None:
    worker, starts = Worker(), StartTimes(least_runs=1, percent=100)
    for number in range(1_000):
        start = f"2026-01-28T{number // 60:02}:{number % 60:02}:00Z"
        agent = "many" if number % 5 else "old" if number < 500 else "some"
        worker.start(str(number), agent_name=agent, start_time=start)
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        found: dict[str, list[str]] = {}

        def pages(snapshot: Snapshot) -> None:
            memory = ListMemory(Totals(), NewestPages(), starts, lambda _ids, _positions: {})
            for agent in ("many", "some", "old"):
                query = [("agent_name", agent), ("limit", "10")]
                for _ in range(3):
                    parameters = Parameters(query, LIST_PARAMETERS, LIST_REPEATABLE)
                    listed = list_runs(snapshot, parameters, memory)
                    assert listed == list_runs(snapshot, parameters)
                    page = msgspec.json.decode(listed)
                    found.setdefault(agent, []).append(page["runs"][0]["run_id"])
                    query = [*query[:2], ("cursor", page["next_cursor"])]
            assert starts.since(snapshot, 10, 800) is not None
            assert starts.since(snapshot, 10, 20) is None

        await model.reader.read(pages)
        assert {agent: names[0] for agent, names in found.items()} == {"many": "999", "some": "995", "old": "495"}


def test_an_end_is_taken_anew_when_the_list_has_grown_much() -> None:
    pages, end = NewestPages(), Place(5, UUID(int=1))
    all_runs, some = Where("true", {}, frozenset()), Where("agent_name IN ($a)", {"a": "x"}, frozenset({"agent_name"}))
    assert pages.end(all_runs, 10, 20) is None
    pages.ended(all_runs, 10, 20, end)
    assert pages.end(all_runs, 10, 20) == pages.end(all_runs, 10, 1_020) == end
    assert pages.end(all_runs, 10, 1_021) is pages.end(all_runs, 11, 20) is pages.end(some, 10, 20) is None
