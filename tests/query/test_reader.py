"""Reads that nobody waits for any more, or that take too long, are ended; others go on. What is not found says as of
when."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runlake.logs import Log
from runlake_query.copies import Copies
from runlake_query.folder import Folder
from runlake_query.model import open_model
from runlake_query.problems import NotFound, TooSlow
from runlake_query.reader import Reader, Snapshot

ENDLESS = "SELECT count(*) FROM range(10000000) AS a(x), range(10000000) AS b(y) WHERE (x * y) % 7 = 3"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    folder = Folder(tmp_path)
    model = open_model(folder, datetime(2026, 1, 1, tzinfo=UTC), Log("query", stream=io.StringIO()))
    reader = Reader(model, Copies(folder, model.cursor()), threads=1, deadline_s=5.0)
    yield reader
    reader.close()
    model.close()
    folder.close()


def endless(snapshot: Snapshot) -> int:
    return int(snapshot.one(ENDLESS)[0])


def quick(snapshot: Snapshot) -> int:
    return int(snapshot.one("SELECT 42")[0])


async def test_a_read_beyond_its_deadline_is_given_up_and_its_thread_is_free(reader: Reader) -> None:
    with pytest.raises(TooSlow, match="5 s"):
        await reader.read(endless)
    assert await reader.read(quick) == 42


async def test_a_read_that_nobody_awaits_any_more_is_given_up_and_so_are_those_in_line(reader: Reader) -> None:
    reading = [asyncio.ensure_future(reader.read(endless)) for _ in range(3)]
    await asyncio.sleep(0)
    for each in reading:
        each.cancel()
    assert await reader.read(quick) == 42
    assert all(each.cancelled() for each in reading)


async def test_reads_given_up_at_any_moment_leave_the_thread_fit_for_the_next(reader: Reader) -> None:
    """Also while the transaction begins or ends."""
    for number in range(1_500):
        reading = asyncio.ensure_future(reader.read(quick))
        end = time.perf_counter() + (number % 100) * 10e-6
        while time.perf_counter() < end:
            await asyncio.sleep(0)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
    assert [await reader.read(quick) for _ in range(3)] == [42] * 3


async def test_a_problem_that_a_read_finds_says_what_it_reflects(reader: Reader) -> None:
    def missing(snapshot: Snapshot) -> int:
        raise NotFound("Run not found: x")

    with pytest.raises(NotFound) as found:
        await reader.read(missing)
    assert found.value.positions == {}
