"""Trees of runs, their histories, and the runs of commits: on a read model that follows a real lake."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runlake_query import trees
from runlake_query.commits import OF_RUN_PARAMETERS, commit_runs, one_commit, run_commits
from runlake_query.commits import PARAMETERS as COMMIT_PARAMETERS
from runlake_query.history import PARAMETERS as HISTORY_PARAMETERS
from runlake_query.history import show_history
from runlake_query.parameters import Parameters
from runlake_query.problems import InvalidParameter, NotFound
from support.lakes import LakeWriter, Worker, at
from support.models import Model

Spec = tuple[int, int | None, int]
"""A run as the trees see it: the number of its run_id, that of its parent's, and when it starts."""
_batches = itertools.count()


class World:
    """One lake, one worker and one read model for all tests of this file; names are kept apart by a prefix."""

    def __init__(self, lake: LakeWriter, model: Model) -> None:
        self.lake, self.model, self.worker = lake, model, Worker()

    def flush(self) -> None:
        self.lake.flush(self.worker)
        self.model.caught_up(self.worker)

    def tree(self, run: object, **parameters: Any) -> Any:
        asked = _asked(trees.PARAMETERS, parameters)
        return _json(self.model.read(lambda snapshot: trees.show_tree(snapshot, str(run), asked)))

    def history(self, run: object, **parameters: Any) -> Any:
        asked = _asked(HISTORY_PARAMETERS, parameters)
        return _json(self.model.read(lambda snapshot: show_history(snapshot, str(run), asked)).body)

    def commit(self, sha: str, **parameters: Any) -> Any:
        asked = _asked(COMMIT_PARAMETERS, parameters)
        return _json(self.model.read(lambda snapshot: commit_runs(snapshot, sha, asked)))

    def commits(self, run: object, **parameters: Any) -> Any:
        asked = _asked(OF_RUN_PARAMETERS, parameters)
        return _json(self.model.read(lambda snapshot: run_commits(snapshot, str(run), asked)))


def _asked(known: tuple[str, ...], parameters: dict[str, Any]) -> Parameters:
    return Parameters([(name, str(value)) for name, value in parameters.items()], known)


def _json(body: bytes) -> Any:
    return json.loads(body, parse_float=Decimal)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("trees")
    with LakeWriter(folder) as lake:
        lake.flush(Worker())
        with Model(lake, folder / "model") as model:
            yield World(lake, model)


def plainly(specs: list[Spec], root: int) -> dict[int, int | None]:
    """The tree below a run, as run → parent: slow, and plainly right."""

    def parent(child: int) -> int | None:
        name, above, start = specs[child]
        named = sorted((specs[run][2], run) for run in range(len(specs)) if specs[run][0] == above)
        if above is None or above == name or not named:
            return None
        before = [run for begun, run in named if begun <= start]
        return before[-1] if before else [run for begun, run in named if begun == named[0][0]][-1]

    parents = {run: parent(run) for run in range(len(specs))}
    found: dict[int, int | None] = {root: None}
    grew = True
    while grew:
        below = {run: above for run, above in parents.items() if above in found and run not in found}
        found |= below
        grew = bool(below)
    return found


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    specs=st.lists(
        st.tuples(st.integers(0, 3), st.none() | st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9
    ),
    data=st.data(),
)
def test_a_tree_is_what_its_links_say_whatever_they_are(world: World, specs: list[Spec], data: st.DataObject) -> None:
    """Missing parents, parents that name themselves or a descendant, and several runs of one run_id included."""
    batch = next(_batches)
    keys: list[UUID] = []
    for name, above, start in specs:
        parent = None if above is None else f"{batch}-{above}"
        keys.append(
            world.worker.start(
                f"{batch}-{name}", parent_run_id=parent, start_time=at(start), input_tokens=1 + len(keys),
                cost_usd="0.000000001",
            )
        )  # fmt: skip
    world.flush()
    root = data.draw(st.integers(0, len(specs) - 1))
    expected = plainly(specs, root)
    answer = world.tree(keys[root])
    found = {item["run"]["event_id"]: item for item in answer["runs"]}
    assert {key: item["parent_event_id"] for key, item in found.items()} == {
        str(keys[run]): None if above is None else str(keys[above]) for run, above in expected.items()
    }
    assert (answer["total"], answer["truncated"], answer["complete"]) == (len(expected), False, True)
    for run in expected:
        below = {run}
        for _ in specs:
            below |= {child for child, above in expected.items() if above in below}
        totals = found[str(keys[run])]["totals"]
        assert (totals["runs"], totals["input_tokens"]) == (len(below), sum(1 + member for member in below))
        assert Decimal(totals["cost_usd"]) == len(below) * Decimal("0.000000001")


def test_totals_of_a_subtree_are_sums_of_what_each_run_says_once(world: World) -> None:
    start = world.worker.start
    start("sum", start_time=at(0), end_time=at(9), status="success", input_tokens=5, cost_usd="1.5", duration_ms=9000)
    start("sum-a", parent_run_id="sum", start_time=at(1), status="timeout", output_tokens=7, cost_usd="0.25")
    start("sum-b", parent_run_id="sum-a", start_time=at(2), end_time=at(20), status="failure", cache_read_tokens=11,
          cache_write_tokens=13)  # fmt: skip
    key = start("sum-c", parent_run_id="sum", start_time=at(3))
    world.worker.event("sum-c", key)
    world.flush()
    top, a, b, c = (item["totals"] for item in world.tree("sum")["runs"])
    assert top == {
        "runs": 4, "running": 1, "failures": 2, "duration_ms": 27_000, "input_tokens": 5, "output_tokens": 7,
        "cache_read_tokens": 11, "cache_write_tokens": 13, "cost_usd": Decimal("1.750000000"), "events": 1,
        "elapsed_ms": 20_000,
    }  # fmt: skip
    assert (a["runs"], a["failures"], b["duration_ms"], c["events"]) == (2, 2, 18_000, 1)


def test_a_tree_says_what_it_leaves_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        world.worker.start(f"wide-{number}", parent_run_id="wide-0" if number else None, start_time=at(number))
    for number in range(12):
        world.worker.start(f"deep-{number}", parent_run_id=f"deep-{number - 1}", start_time=at(number))
    world.flush()
    some = world.tree("wide-0", limit=10)
    assert (len(some["runs"]), some["total"], some["truncated"], some["complete"]) == (10, 30, True, True)
    assert some["runs"][0]["totals"]["runs"] == 30, "totals are of all"
    top = world.tree("deep-0", depth=2)
    assert [item["depth"] for item in top["runs"]] == [0, 1, 2]
    assert [item["totals"]["runs"] for item in top["runs"]] == [12, 11, 10]
    assert top["runs"][0]["children"] == 1
    monkeypatch.setattr(trees, "MAX_RUNS", 10)
    few = world.tree("wide-0")
    assert (few["total"], few["complete"]) == (10, False)
    monkeypatch.setattr(trees, "MAX_DEPTH", 5)
    flat = world.tree("deep-0", depth=5)
    assert (flat["total"], flat["complete"]) == (6, False)


def test_a_run_whose_parent_is_missing_or_known_says_so(world: World) -> None:
    above = world.worker.start("above")
    world.worker.start("below", parent_run_id="above")
    world.worker.start("orphan", parent_run_id="never-came")
    world.flush()
    assert world.tree("below")["parent_event_id"] == str(above)
    assert world.tree("orphan")["parent_event_id"] is None
    with pytest.raises(NotFound, match="Run not found: never-came"):
        world.tree("never-came")


def test_a_history_is_every_accepted_change_as_it_was_said(world: World) -> None:
    worker = world.worker
    early = worker.seq + 1
    key = UUID(int=77)
    worker.update(key, status="failure", ts=at(50))  # before its start came
    worker.start("told", key, metrics_json={"a": None}, cost_usd="0.1")
    worker.update(UUID(int=78), status="success")  # another run
    worker.update(key, end_time=at(60), items_failed=0)
    worker.update(key, commit_hash="abcdef1", commit_source="llm")
    world.flush()
    answer = world.history("told")
    changes = answer["changes"]
    assert answer["complete"] is True
    assert [change["position"] for change in changes] == [
        f"{worker.id}:{seq}" for seq in (early, early + 1, early + 3, early + 4)
    ]
    assert changes[0]["fields"] == {"status": "failure"}
    assert changes[1]["fields"] == {
        "run_id": "told", "agent_name": "agent", "job_type": "job", "status": "running",
        "start_time": changes[1]["fields"]["start_time"], "metrics_json": {"a": None}, "cost_usd": Decimal("0.1"),
    }  # fmt: skip
    assert changes[2]["fields"] == {"end_time": "2026-01-28T10:31:00Z", "items_failed": 0}
    assert (changes[0]["kind"], changes[1]["kind"], changes[0]["producer"]) == ("run.updated", "run.started", "p")
    pages: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = world.history(key, limit=1, **cursor)
        pages += page["changes"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert pages == changes
    (commit,) = world.history("told", field="commit_hash")["changes"]
    assert commit["fields"] == {"commit_hash": "abcdef1", "commit_source": "llm"}
    with pytest.raises(InvalidParameter, match="did you mean 'commit_hash'"):
        world.history("told", field="commit_has")


def test_a_history_begins_with_what_was_said_before_the_run_started(world: World) -> None:
    """Each change in a flush of its own: the lake's files of other times are not looked at."""
    worker, key = world.worker, uuid4()
    worker.update(key, items_failed=1)
    world.flush()
    worker.start("late", key)
    world.flush()
    for number in range(2, 4):
        worker.event("late", key)
        worker.update(key, items_failed=number)
        world.flush()
    changes = world.history("late")["changes"]
    assert [change["fields"].get("items_failed") for change in changes] == [1, None, 2, 3]
    first = world.history("late", limit=2)
    assert first["changes"] + world.history("late", limit=2, cursor=first["next_cursor"])["changes"] == changes
    assert world.model.rows(f"SELECT first_change_at < created_at FROM runs WHERE event_id = '{key}'") == [(True,)]


def test_a_commit_finds_its_runs_their_launch_and_all_below_them(world: World) -> None:
    worker = world.worker
    launch = worker.start("launch", start_time=at(0))
    made = worker.start("made", parent_run_id="launch", start_time=at(1))
    child = worker.start("made-child", parent_run_id="made", start_time=at(2))
    worker.start("not-of-it", parent_run_id="launch", start_time=at(3))
    worker.update(made, commit_hash="C0ffee00" + "1" * 32, commit_source="ci", commit_author="ann")
    worker.update(made, commit_hash="feedbeef" * 5, commit_source="llm")  # a later one takes its place in the run
    worker.update(child, commit_hash="c0ffee0", commit_source="manual")
    world.flush()
    full = "c0ffee00" + "1" * 32
    for sha in (full, "c0ff", "C0FFEE0", full[:20]):
        answer = world.commit(sha)
        assert answer["commit_hash"] == full
        shown = [(item["run"]["event_id"], item["depth"], item["associated"]) for item in answer["runs"]]
        assert shown == [(str(made), 0, True), (str(child), 1, True)]
        assert {(said["run_event_id"], said["launch_event_id"]) for said in answer["associations"]} == {
            (str(made), str(launch)), (str(child), str(launch)),
        }  # fmt: skip
    assert [said["commit_source"] for said in answer["associations"]] == ["ci", "manual"]
    assert [item["run"]["run_id"] for item in world.commit("feedbeef")["runs"]] == ["made", "made-child"]
    assert world.commit("c0ffee0")["runs"][0]["totals"]["runs"] == 2
    said = world.commits("made")["associations"]
    assert [(one["commit_hash"][:8], one["commit_author"]) for one in said] == [("C0ffee00", "ann"), ("feedbeef", None)]


def test_an_abbreviation_of_two_commits_is_said_to_be_ambiguous_and_an_unknown_one_is_not_found(world: World) -> None:
    for end in "12":
        world.worker.start(f"two-{end}", commit_hash=f"2222222{end}")
    world.flush()
    with pytest.raises(InvalidParameter, match="ambiguous: it stands for 22222221, 22222222"):
        world.commit("2222222")
    assert world.commit("22222221")["total"] == 1
    with pytest.raises(NotFound, match="Commit not found: 9999999"):
        world.commit("9999999")
    for sha in ("abc", "a" * 41, "abc-def"):
        with pytest.raises(InvalidParameter, match="must be 4 to 40 letters and digits"):
            world.commit(sha)


@pytest.mark.parametrize(
    ("hashes", "commit"),
    [(["abcd123"], "abcd123"), (["abcd", "ABCD123", "abcd12"], "abcd123"), (["abcd1", "abcd2"], None)],
)
def test_hashes_that_begin_alike_are_one_commit(hashes: list[str], commit: str | None) -> None:
    if commit is None:
        with pytest.raises(InvalidParameter):
            one_commit("abcd", hashes)
    else:
        assert one_commit("abcd", hashes) == commit
