"""Reads: off the event loop, in one transaction each, bounded in number; and waits for positions, bounded in time."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from uuid import UUID

import pytest

from runlake_query.positions import format_positions, parse_positions, reaches
from runlake_query.problems import TooBusy
from runlake_query.progress import Progress
from runlake_query.reader import Reader, Snapshot
from support.lakes import LakeWriter, Worker
from support.models import Model

A, B = UUID(int=1), UUID(int=2)


def test_positions_are_written_in_one_way_and_read_back() -> None:
    assert format_positions({B: 3, A: 12}) == f"{A}:12,{B}:3"
    assert parse_positions(f"{B}:3, {A}:12,{A}:5") == {A: 12, B: 3}
    assert format_positions({}) == ""


@pytest.mark.parametrize("text", ["", "x", f"{A}", f"{A}:", f"{A}:-1", f"{A}:1.0", f"{A}:٣", f"{A}:{'9' * 20}", "1:1"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_positions(text)


def test_positions_are_reached_when_each_worker_is_there() -> None:
    assert reaches({A: 5}, {})
    assert reaches({A: 5, B: 1}, {A: 5})
    assert not reaches({A: 5}, {A: 6})
    assert not reaches({A: 5}, {A: 5, B: 1})


async def test_a_wait_ends_when_the_position_is_applied() -> None:
    progress = Progress()
    waiting = asyncio.create_task(progress.wait_for({A: 2}, timeout=30))
    await asyncio.sleep(0)
    for seq in (1, 2):
        assert not waiting.done()
        progress.applied({A: seq})
    progress.in_step(progress.looked_at())  # before the first catch-up, nothing is an answer
    assert await waiting


async def test_a_wait_for_what_does_not_come_ends_in_time() -> None:
    progress = Progress()
    progress.in_step(progress.looked_at())
    assert not await progress.wait_for({A: 1}, timeout=0.01)


def test_lag_is_the_time_since_the_read_model_was_in_step() -> None:
    now = [10.0]
    progress = Progress(lambda: now[0])
    now[0] = 10.25
    assert progress.lag_ms() == 250
    looked_at = progress.looked_at()
    now[0] = 10.5
    progress.in_step(looked_at)
    assert progress.lag_ms() == 250


def test_a_failure_is_counted_and_keeps_what_was_known_unless_it_is_no_answer_any_more() -> None:
    progress = Progress()
    progress.in_step(progress.looked_at())
    progress.behind("the lake is away")
    assert progress.state == (True, False, "the lake is away", 0)
    progress.behind("a surprise", failed=True)
    assert progress.state == (True, False, "a surprise", 1)
    progress.behind("another lake", restart=True)
    assert progress.state == (False, False, "another lake", 1)


async def test_more_reads_than_the_bound_are_refused(lake: LakeWriter, tmp_path: Path) -> None:
    with Model(lake, tmp_path / "model") as model:
        model.caught_up()
        reader = Reader(model.model, model.copies, threads=1, waiting=1)
        started, go_on = threading.Event(), threading.Event()

        def slow(snapshot: Snapshot) -> str:
            started.set()
            assert go_on.wait(30)
            return threading.current_thread().name

        reads = [asyncio.create_task(reader.read(slow)) for _ in range(2)]
        await asyncio.to_thread(started.wait, 30)
        with pytest.raises(TooBusy):
            await reader.read(slow)
        go_on.set()
        assert all(name.startswith("reader") for name in await asyncio.gather(*reads))
        assert await reader.read(slow)
        reader.close()


async def test_a_read_sees_rows_and_position_of_one_moment(lake: LakeWriter, tmp_path: Path) -> None:
    worker = Worker()
    worker.start("r")
    lake.flush(worker)
    with Model(lake, tmp_path / "model") as model:
        model.caught_up(worker)
        begun, go_on = threading.Event(), threading.Event()

        def slow(snapshot: Snapshot) -> tuple[int, int, int]:
            begun.set()
            assert go_on.wait(30)
            (runs,) = snapshot.one("SELECT count(*) FROM shown")
            (in_lake,) = snapshot.one(f"SELECT count(*) FROM {snapshot.lake}.run_changes")
            return runs, in_lake, snapshot.positions[worker.id]

        reading = asyncio.create_task(model.reader.read(slow, with_lake=True))
        await asyncio.to_thread(begun.wait, 30)
        worker.start("s")
        lake.flush(worker)
        await asyncio.to_thread(model.caught_up, worker)
        go_on.set()
        assert await reading == (1, 1, 1)
        begun.clear()
        assert await model.reader.read(slow, with_lake=True) == (2, 2, 2)
