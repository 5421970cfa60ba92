"""Real lakes for tests of the reading side, written by a process of their own.

The reading side never attaches a live catalog in DuckDB, and this test process is on the reading side; so rows travel
as JSON lines to a child that holds the catalog open, as the ingest worker does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID, uuid4

EPOCH = datetime(2026, 1, 28, 10, 30, tzinfo=UTC)
"""A time that tests count from."""
Row = dict[str, Any]


def at(seconds: float) -> str:
    """EPOCH and some seconds, as text with a zone."""
    return (EPOCH + timedelta(seconds=seconds)).isoformat()


@dataclass
class Worker:
    """Numbers and collects what one worker accepts, until `LakeWriter.flush` takes it."""

    id: UUID = field(default_factory=uuid4)
    seq: int = 0
    flushed: int = 0
    segment: int = 0
    run_changes: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    deliveries: list[Row] = field(default_factory=list)
    quarantine: list[Row] = field(default_factory=list)

    def start(self, run_id: str, event_id: UUID | None = None, **fields: Any) -> UUID:
        """A run.started; returns the run's key."""
        key = event_id or uuid4()
        defaults = {"agent_name": "agent", "job_type": "job", "status": "running", "start_time": at(self.seq)}
        self._change("run.started", key, key, {**defaults, "run_id": run_id, **fields})
        return key

    def update(self, run: UUID, **fields: Any) -> None:
        self._change("run.updated", uuid4(), run, fields)

    def event(self, run_id: str, run: UUID | None = None, ts: str | None = None, **fields: Any) -> UUID:
        self.seq += 1
        key = uuid4()
        row = {"event_id": str(key), "run_id": run_id, "run_event_id": run and str(run), "ts": ts or at(self.seq)}
        self.events.append({**self._common(), "type": "step", **row, **fields})
        return key

    def delivery(self, producer: str, first_number: int | None, accepted: int, duplicate: int = 0, rejected: int = 0,
                 first_seq: int | None = None, received_at: str | None = None) -> None:  # fmt: skip
        """One batch; by default it was received after everything so far."""
        self.deliveries.append({
            "worker": str(self.id), "producer": producer, "batch": len(self.deliveries) + 1,
            "first_seq": first_seq or self.seq + 1, "received_at": received_at or at(self.seq),
            "first_number": first_number, "received": accepted + duplicate + rejected,
            "accepted": accepted, "duplicate": duplicate, "rejected": rejected,
        })  # fmt: skip

    def refuse(self, producer: str, reason: str, raw: bytes, received_at: str | None = None, **fields: Any) -> None:
        row = {"worker": str(self.id), "received_at": received_at or at(self.seq), "producer": producer}
        self.quarantine.append({**row, "messages": 1, "reason": reason, "raw_hex": raw.hex(), **fields})

    def _change(self, kind: str, event_id: UUID, run: UUID, fields: Row) -> None:
        self.seq += 1
        common = {**self._common(), "kind": kind, "event_id": str(event_id), "run_event_id": str(run), "ts": at(0)}
        self.run_changes.append({**common, **fields})

    def _common(self) -> Row:
        return {"worker": str(self.id), "seq": self.seq, "received_at": at(self.seq), "producer": "p"}


class LakeWriter:
    """A child process that owns a lake. Use as a context manager."""

    def __init__(self, data: Path) -> None:
        self.catalog = data / "catalog.sqlite"
        self.storage = data / "lake"
        self._child = subprocess.Popen(
            [sys.executable, __file__, str(self.catalog), str(self.storage)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.id = UUID(self._answer())

    def flush(self, *workers: Worker) -> None:
        """Write what the workers have collected: one transaction and one row of `flushes` for each."""
        for worker in workers:
            worker.segment += 1
            self._ask({
                "run_changes": worker.run_changes, "events": worker.events, "deliveries": worker.deliveries,
                "quarantine": worker.quarantine,
                "flushes": [{
                    "worker": str(worker.id), "segment": worker.segment, "first_seq": worker.flushed + 1,
                    "last_seq": worker.seq, "flushed_at": at(worker.seq),
                }],
            })  # fmt: skip
            worker.flushed = worker.seq
            worker.run_changes, worker.events, worker.deliveries, worker.quarantine = [], [], [], []

    def sql(self, query: str) -> list[list[Any]]:
        """The rows of a query on the live lake, made by its owner; values that JSON has no word for as texts."""
        rows: list[list[Any]] = json.loads(self._ask({"sql": query}))
        return rows

    def close(self) -> None:
        if self._child.stdin and self._child.stdout:
            with suppress(BrokenPipeError):
                self._child.stdin.close()
            self._child.wait(timeout=20)
            self._child.stdout.close()

    def __enter__(self) -> LakeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: Row) -> str:
        assert self._child.stdin
        self._child.stdin.write(json.dumps(request) + "\n")
        self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._child.stdout
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError("the lake's writer has ended; its error is above")
        return line.rstrip("\n")


def _own(catalog: Path, storage: str, requests: Iterable[str]) -> None:
    """The child: makes or opens the lake, then writes what it is told and answers when it is committed."""
    from runlake.lake.attach import attach_for_writing, inline_flushes
    from runlake.lake.duck import connect
    from runlake.lake.place import LakePlace
    from runlake.lake.schema import lake_id, migrate

    connection = connect()
    attach_for_writing(connection, LakePlace.of_files(catalog, Path(storage)))
    migrate(connection, "lake", uuid4(), lambda: None)
    inline_flushes(connection)
    columns = {
        table: ", ".join(f"{name} {kind}" for name, kind in found)
        for table in ("run_changes", "events", "deliveries", "quarantine", "flushes")
        if (found := [row[:2] for row in connection.execute(f"DESCRIBE lake.{table}").fetchall()])
    }
    columns["quarantine"] = columns["quarantine"].replace("raw BLOB", "raw_hex VARCHAR")
    print(lake_id(connection, "lake"), flush=True)
    batch = catalog.with_name("batch.ndjson")
    for line in requests:
        request = json.loads(line)
        if "sql" in request:
            rows = connection.execute(request["sql"]).fetchall()
            print(json.dumps(rows, default=str), flush=True)
            continue
        connection.execute("BEGIN")
        for table, rows in request.items():
            if not rows:
                continue
            batch.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
            spec = ", ".join(
                f"'{name}': '{kind}'" for name, _, kind in (part.partition(" ") for part in _split(columns[table]))
            )
            source = (
                f"read_json('{batch}', format = 'newline_delimited', columns = {{{spec}}},"
                " maximum_object_size = 67108864)"
            )
            shown = "* EXCLUDE (raw_hex), unhex(raw_hex) AS raw" if table == "quarantine" else "*"
            connection.execute(f"INSERT INTO lake.{table} BY NAME SELECT {shown} FROM {source}")
        connection.execute("COMMIT")
        print("ok", flush=True)


def _split(columns: str) -> list[str]:
    """Column definitions, at the commas between them and not at those of DECIMAL(18,9)."""
    return columns.split(", ")


if __name__ == "__main__":
    _own(Path(sys.argv[1]), sys.argv[2], sys.stdin)
