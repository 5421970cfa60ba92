"""What it costs to bring a read model of many runs up to date: spans of the feed of several sizes.

The messages are those of agents at work: runs that start, tell events and end, and now and then (one in 500) an update
of a run from anywhere in the history. Applied as the follower does it, with what is read back for the recent runs
and for one subscriber.
"""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time
from uuid import UUID

from benchmarks.figures import figure, percentile
from runlake.ids import Uuid7Source
from runlake.logs import Log
from runlake.messages import Message, RunEvent, RunStarted, RunUpdated
from runlake.sqlfile import load_queries
from runlake_query.apply import Applier
from runlake_query.folder import Folder
from runlake_query.live import Live
from runlake_query.model import ReadModel, open_model
from runlake_query.recent import Recent
from runlake_query.streambatch import Filter, Selection
from runlake_query.subscribers import Subscribers
from support.journals import batch_lines

WORKER = UUID(int=1, version=4)
SPANS = {1: 200, 100: 60, 1_000: 25}
"""How many messages a span has, and how many such spans are applied."""
_SQL = load_queries("benchmarks", "apply.sql")
_MESSAGES_OF_A_RUN = 20


def run(short: bool) -> None:
    count = 20_000 if short else 1_000_000
    for ids in ("ordered", "random"):
        with tempfile.TemporaryDirectory() as name:
            folder = Folder(Path(name))
            model = open_model(folder, datetime(2020, 1, 1, tzinfo=UTC), Log("query", stream=io.StringIO()))
            try:
                _measure(model, count, ids, short)
            finally:
                model.close()
                folder.close()


def _measure(model: ReadModel, count: int, ids: str, short: bool) -> None:
    cursor = model.cursor()
    _fill(model, count, ids)
    old = [UUID(row[0]) for row in cursor.execute(_SQL["some_runs"]).fetchall()]
    subscribers = Subscribers()
    subscribers.add(Selection(filter_key="all"), Filter("true", {}), {})
    live = Live(Recent(), subscribers)
    applier = Applier(model.cursor(), live)
    traffic = _Traffic(old, ids)
    seq = 3 * count + 2
    for size, times in SPANS.items():
        wall: list[float] = []
        cpu: list[float] = []
        for number in range(4 if short else times):
            lines = b"".join(batch_lines(traffic.take(size), seq + 1))
            began, used = perf_counter(), process_time()
            applier.apply_feed(WORKER, 2, seq + size, lines)
            live.applied(cursor, {WORKER: seq + size})
            if number:  # the first one makes the statements
                wall.append(1_000 * (perf_counter() - began))
                cpu.append(1_000 * (process_time() - used))
            seq += size
        facts = {"messages": size, "runs": count, "ids": ids, "spans": len(wall)}
        for share, label in ((0.5, "p50"), (0.99, "p99")):
            figure(f"apply of a span {label}", percentile(wall, share), "ms", **facts)
            figure(f"CPU of applying a span {label}", percentile(cpu, share), "ms", **facts)


def _fill(model: ReadModel, count: int, ids: str) -> None:
    cursor = model.cursor()
    until = int((datetime.now(UTC) - timedelta(minutes=1)).timestamp() * 1000)
    values = {"count": count, "until_ms": until, "ordered": ids == "ordered", "worker": str(WORKER)}
    cursor.execute(_SQL["runs"], values)
    cursor.execute(_SQL["position"], {"worker": str(WORKER), "seq": 3 * count + 2})
    cursor.execute("CHECKPOINT")
    cursor.close()


class _Traffic:
    """The messages of agents at work, the same for every span size."""

    def __init__(self, old: list[UUID], ids: str) -> None:
        self._dice = random.Random(1)
        self._old = old
        self._new_id: Callable[[], UUID] = Uuid7Source() if ids == "ordered" else self._random_id
        self._at_work: list[tuple[UUID, int]] = []

    def _random_id(self) -> UUID:
        return UUID(int=self._dice.getrandbits(128), version=4)

    def take(self, count: int) -> list[Message]:
        return [self._next() for _ in range(count)]

    def _next(self) -> Message:
        now = datetime.now(UTC)
        if self._dice.random() < 0.002:
            return RunUpdated(
                event_id=self._new_id(), run_event_id=self._dice.choice(self._old), ts=now, items_failed=1
            )
        if len(self._at_work) < 50:
            key = self._new_id()
            self._at_work.append((key, 1))
            return RunStarted(
                event_id=key, run_id=str(key), agent_name="agent-1", job_type="load", start_time=now, product="p",
                metrics_json={"model": "small", "input_tokens": 900},
            )  # fmt: skip
        at = self._dice.randrange(len(self._at_work))
        key, told = self._at_work[at]
        if told < _MESSAGES_OF_A_RUN - 1:
            self._at_work[at] = key, told + 1
            payload = {"number": told, "text": "x" * 40}
            return RunEvent(
                event_id=self._new_id(), run_id=str(key), run_event_id=key, ts=now, type="load", payload=payload
            )
        del self._at_work[at]
        return RunUpdated(event_id=self._new_id(), run_event_id=key, ts=now, status="success", end_time=now)
