"""`GET /api/v1/values` and `GET /api/v1/lake`: which values there are, and which files."""

from __future__ import annotations

from collections import Counter

import pytest

from runlake.fields import DIMENSIONS
from support.api import Api, Start
from support.contract import problem
from support.lakes import LakeWriter, Worker
from support.processes import Site

VALUES = "/api/v1/values"


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_values_of_a_dimension_are_those_of_the_runs_that_match_the_most_frequent_first(
    api: Api, dimension: str
) -> None:
    runs = api.ok("/api/v1/runs", limit=1000, job_type="daily")["runs"]
    counted = Counter(run[dimension] for run in runs if run[dimension] is not None)
    wanted = sorted(({"value": value, "runs": runs} for value, runs in counted.items()), key=by_number)
    found = api.ok(VALUES, dimension=dimension, job_type="daily")
    assert found == {"dimension": dimension, "values": wanted, "truncated": False}


def by_number(value: dict[str, object]) -> tuple[int, str]:
    return -int(str(value["runs"])), str(value["value"])


def test_a_prefix_finds_values_beyond_the_first_ones(lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    for number in range(80):
        worker.start(f"run {number}", agent_name=f"agent-{number:02}")
    for name in ("Straße 100%", "%", "_x"):
        worker.start(name, agent_name=name)
    lake.flush(worker)
    _, api = start()
    assert api.ok(VALUES, dimension="agent_name", limit=50)["truncated"] is True
    assert names(api, "AGENT-7") == [f"agent-{number}" for number in range(70, 80)]
    assert names(api, "straß") == ["Straße 100%"]
    assert names(api, "%") == ["%"], "no pattern, but a text"
    assert names(api, "gent") == []


def names(api: Api, prefix: str) -> list[str]:
    return [one["value"] for one in api.ok(VALUES, dimension="agent_name", prefix=prefix)["values"]]


def test_unknown_dimensions_are_refused(api: Api) -> None:
    assert "agent_name" in problem(api.get(VALUES, dimension="agent"), 400)["detail"]
    problem(api.get(VALUES, dimension="run_id"), 400)


def test_the_files_of_the_lake_are_those_on_disk(site: Site, lake: LakeWriter, start: Start) -> None:
    worker = Worker()
    for name in ("a", "b"):
        run = worker.start(name)
        worker.event(name, run)
        lake.flush(worker)
    _, api = start()
    found = api.ok("/api/v1/lake")
    on_disk = [path.stat().st_size for path in (site.data / "lake").rglob("*.parquet")]
    assert (found["files"], found["bytes"]) == (len(on_disk), sum(on_disk))
    assert {table["table"]: table["files"] for table in found["tables"]}["run_changes"] == 2
    assert found["files"] == sum(table["files"] for table in found["tables"])
