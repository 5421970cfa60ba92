"""Structured logs: one JSON object a line, whatever is logged, and never an error."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runlake.logs import Log


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_how_grave_who_and_what() -> None:
    stream = io.StringIO()
    before = datetime.now(UTC).replace(microsecond=0)
    Log("ingest", stream=stream).info("flushed", rows=512, took_ms=1.5)
    (line,) = lines(stream)
    assert list(line) == ["at", "level", "process", "event", "rows", "took_ms"]
    assert line["at"].endswith("Z")
    assert before <= datetime.fromisoformat(line["at"]) <= datetime.now(UTC)
    assert line | {"at": ""} == {
        "at": "",
        "level": "info",
        "process": "ingest",
        "event": "flushed",
        "rows": 512,
        "took_ms": 1.5,
    }


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_what_is_below_the_level_is_not_written(level: str, count: int) -> None:
    stream = io.StringIO()
    log = Log("query", level, stream)
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [line["level"] for line in lines(stream)] == ["debug", "info", "warning", "error"][4 - count :]


def test_values_that_json_has_no_word_for_are_written_as_text() -> None:
    stream = io.StringIO()
    Log("ingest", stream=stream).error(
        "odd", path=Path("/x"), cause=ValueError("no"), id=UUID(int=1), cost=Decimal("1.5"), at_=datetime(2026, 1, 1)
    )
    (line,) = lines(stream)
    assert (line["path"], line["cause"], line["cost"]) == ("/x", "no", "1.5")


class _Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def _endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    ["\udcff", {(1, 2): 3}, _endless(), _Unspeakable(), {"deep": _Unspeakable()}, 10**40, float("nan")],
    ids=["lone surrogate", "odd key", "endless", "no str", "no str inside", "large number", "nan"],
)
def test_whatever_is_logged_gives_one_line_and_no_error(value: Any) -> None:
    stream = io.StringIO()
    Log("ingest", stream=stream).warning("odd", value=value, other=1)
    (line,) = lines(stream)
    assert line["event"] == "odd"
    assert line["other"] == 1
    assert "value" in line


def test_line_breaks_in_values_do_not_break_lines() -> None:
    stream = io.StringIO()
    Log("ingest", stream=stream).info("text", value="one\ntwo\r\u2028three")
    assert stream.getvalue().count("\n") == 1


def test_a_stream_that_is_closed_or_broken_is_no_error() -> None:
    closed = io.StringIO()
    closed.close()
    Log("ingest", stream=closed).info("unheard")

    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    Log("ingest", stream=Broken()).info("unheard")


def test_lines_of_several_threads_do_not_mix() -> None:
    stream = io.StringIO()
    log = Log("ingest", stream=stream)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: log.info("said", number=number, long="x" * 2_000), range(400)))
    assert sorted(line["number"] for line in lines(stream)) == list(range(400))
