"""What a stream that is resumed is told of: events of the read model, and those that only the lake has any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from runlake_query import missed as module
from runlake_query.missed import missed
from runlake_query.streambatch import Filter, Selection
from support.lakes import LakeWriter, Worker
from support.models import Model


def test_events_older_than_the_window_come_with_the_others_of_the_runs_that_are_watched(
    lake: LakeWriter, tmp_path: Path
) -> None:
    worker = Worker()
    for name in ("a", "b"):
        run = worker.start(name, agent_name=name)
        worker.event(name, run, ts="2020-01-01T00:00:00Z")
        worker.event(name, run, ts="2026-04-14T00:00:00Z")
    worker.event("a", ts="2020-01-01T00:00:00Z")
    key = run
    lake.flush(worker)
    of_a = Filter("agent_name = $agent", {"agent": "a"})
    with Model(lake, tmp_path / "model", days=30) as model:
        model.caught_up(worker)

        def told(selection: Selection, condition: Filter | None, after: int) -> list[int]:
            frames = model.read(lambda snapshot: missed(snapshot, selection, condition, {worker.id: after}))
            assert frames is not None
            return [frame.seq for frame in frames if frame.kind == "event"]

        assert told(Selection(), None, 0) == [2, 3, 5, 6, 7]
        assert told(Selection(), None, 2) == [3, 5, 6, 7]
        assert told(Selection("a"), of_a, 0) == [2, 3]
        assert told(Selection(run=key), None, 0) == [5, 6]
        assert told(Selection(run=key, run_id="a"), None, 0) == [5, 6, 7]
        assert told(Selection(type="other"), None, 0) == []


def test_only_the_older_events_of_the_runs_that_are_watched_count_as_too_many(
    lake: LakeWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_MISSED", 3)
    monkeypatch.setattr(module, "_RUNS_AT_ONCE", 2)
    worker = Worker()
    keys = {name: worker.start(name, agent_name=name[0]) for name in ("b1", "b2", "b3", "a1", "a2", "a3", "a4")}
    begun = worker.seq
    for name in ("b1", "b2", "b3", "b3", "b3", "a1", "a2"):
        worker.event(name, keys[name], ts="2020-01-01T00:00:00Z")
    worker.event("a1", ts="2020-01-01T00:00:00Z")
    lake.flush(worker)
    with Model(lake, tmp_path / "model", days=30) as model:

        def told(agent: str) -> list[int] | None:
            model.caught_up(worker)
            of_agent = Filter("agent_name = $agent", {"agent": agent})
            frames = model.read(lambda snapshot: missed(snapshot, Selection(agent), of_agent, {worker.id: begun}))
            return None if frames is None else [frame.seq for frame in frames if frame.kind == "event"]

        assert told("a") == [begun + 6, begun + 7]
        assert told("b") is None  # five events of three runs
        worker.event("a1", keys["a1"], ts="2020-01-01T00:00:00Z")
        lake.flush(worker)
        assert told("a") == [begun + 6, begun + 7, begun + 9]
        for name in ("a3", "a4"):
            worker.event(name, keys[name], ts="2020-01-01T00:00:00Z")
        lake.flush(worker)
        assert told("a") is None  # of four runs
        assert told("c") == []
