"""Journals for tests, written by the real writer, with the log lines that a recovery leaves."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import msgspec

from runlake.logs import Log
from runlake.messages import Message, RunEvent
from runlake_ingest.crashpoints import CrashPoints
from runlake_ingest.journal import Segment, SegmentWriter
from runlake_ingest.lines import Delivery, line_head, message_line, record_line
from support.samples import START

LAKE = UUID("018d4f00-0000-7000-8000-0000000000aa")
WORKER = UUID("018d4f00-0000-7000-8000-0000000000bb")


def batch_lines(messages: Sequence[Message], first_seq: int, producer: str = "producer") -> list[bytes]:
    """The lines of a batch all of whose messages are accepted."""
    head = line_head(START, producer)
    lines = [message_line(first_seq + index, head, message) for index, message in enumerate(messages)]
    count = len(messages)
    books = Delivery(
        first_seq=first_seq, received_at=START, producer=producer, batch=1, first_number=first_seq, received=count,
        accepted=count, duplicate=0, rejected=0,
    )  # fmt: skip
    return [*lines, record_line(books)]


def write_segment(
    folder: Path,
    number: int = 1,
    groups: Sequence[int] = (3,),
    first_seq: int = 1,
    lake: UUID = LAKE,
    worker: UUID = WORKER,
) -> Segment:
    """A sealed segment with one group of so many messages for each of `groups`; the same bytes every time."""
    numbers = itertools.count(first_seq)
    made = [[_event(number, next(numbers)) for _ in range(count)] for count in groups]
    return write_lines(folder, made, number, first_seq, lake=lake, worker=worker)


def write_lines(
    folder: Path,
    groups: Sequence[Sequence[Message]],
    number: int = 1,
    first_seq: int = 1,
    lake: UUID = LAKE,
    worker: UUID = WORKER,
    extra: Sequence[bytes] = (),
) -> Segment:
    """A sealed segment with a group for each sequence of messages; `extra` lines stand in the first group."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = SegmentWriter(folder, lake, worker, number, first_seq, CrashPoints({}))
    for index, messages in enumerate(groups):
        lines = batch_lines(messages, first_seq)
        first_seq += len(messages)
        writer.write_group([*lines, *(() if index else extra)], first_seq - 1)
    return writer.seal()


def _event(segment: int, number: int) -> RunEvent:
    return RunEvent(
        event_id=uuid5(WORKER, f"{segment} {number}"), run_id="run", ts=START, type="step", payload={"number": number}
    )


class Logged:
    """A log that a test can read."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self.log = Log("ingest", "debug", self._stream)

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines()]

    def lines(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self._stream.getvalue().splitlines()]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == event]
