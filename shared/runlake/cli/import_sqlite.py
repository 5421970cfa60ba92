"""`runlake import sqlite PATH`: takes over the database file of the earlier telemetry service."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from runlake import settings as settings_module
from runlake import wire
from runlake.cli.failure import CommandFailed
from runlake.cli.import_delivery import ImportDelivery
from runlake.cli.import_rows import Skipped, event_message, run_message
from runlake.cli.import_source import TABLES, ImportSource
from runlake.cli.import_state import ImportState, load_state, save_state
from runlake.cli.output import for_people, print_json, print_table
from runlake.cli.progress import progress_bar
from runlake.cli.subcommands import Subcommands
from runlake.cli.worker_client import ask_position
from runlake.ids import Uuid7Source

_ASK_TIMEOUT_MS = 5_000
_MAX_BATCH_MESSAGES = 250
_EXAMPLES = 3


class Reason(Struct):
    """Why rows were skipped: one reason, how many, and the first of them by rowid."""

    reason: str
    rows: int = 0
    examples: list[int] = []


class Report(Struct):
    """What became of one table."""

    table: str
    rows: int
    resumed_after: int = 0
    taken: int = 0
    known: int = 0
    skipped: int = 0
    reasons: dict[str, Reason] = {}

    def skip(self, rowid: int, reason: str) -> None:
        self.skipped += 1
        kind = re.sub(r"'.*'", "…", reason)
        found = self.reasons.setdefault(kind, Reason(reason))
        found.rows += 1
        if len(found.examples) < _EXAMPLES:
            found.examples.append(rowid)


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "import",
        help="take over the data of an earlier service",
        description="Take over the data of an earlier service.",
    )
    kinds = parser.add_subparsers(metavar="sqlite PATH", required=True)
    sqlite = kinds.add_parser(
        "sqlite",
        help="a SQLite file with the tables `runs` and `events`",
        description="Take over a SQLite file with the tables `runs` and `events`. Running it again goes on where it"
        " was, and adds nothing twice. JSON when the output is not a terminal.",
    )
    sqlite.add_argument("path", type=Path, metavar="PATH", help="the database file; it is only read")
    sqlite.add_argument("--again", action="store_true", help="start at the first row, whatever was imported before")
    sqlite.add_argument("--json", action="store_true", help="print the report as JSON")
    settings_module.add_flags(sqlite, "ingest")
    sqlite.set_defaults(run=import_sqlite)


def import_sqlite(arguments: argparse.Namespace) -> int:
    """Import both tables, and print what was taken, what was known already, and what was skipped and why."""
    settings = settings_module.from_arguments(arguments)
    endpoint, keys = settings.ingest, settings.client_keys
    source = ImportSource(arguments.path)
    try:
        lake = ask_position(endpoint, _ASK_TIMEOUT_MS, keys).lake
        state = ImportState(lake) if arguments.again else load_state(arguments.path, lake)
        with ImportDelivery(endpoint, f"import-{Uuid7Source()()}", keys=keys) as delivery:
            reports = [_import_table(source, table, state, delivery) for table in TABLES]
    finally:
        source.close()
    _print(arguments, reports)
    return 0


def _import_table(source: ImportSource, table: str, state: ImportState, delivery: ImportDelivery) -> Report:
    report = Report(table, source.count(table), resumed_after=state.row(table))
    batch: list[tuple[int, bytes]] = []
    size = 0

    def send(last: int) -> None:
        nonlocal batch, size
        sent, batch, size = batch, [], 0
        if sent:
            delivery.send([message for _, message in sent], _on_ack(source.path, table, state, report, sent, last))

    with progress_bar(f"importing {table}", report.rows) as advance:
        rowid = report.resumed_after
        for rowid, row in source.rows(table, report.resumed_after):
            advance(1)
            try:
                message = run_message(row) if table == "runs" else event_message(row, rowid)
            except Skipped as reason:
                report.skip(rowid, str(reason))
                continue
            encoded = wire.encode_message(message)
            if len(batch) >= _MAX_BATCH_MESSAGES or size + len(encoded) > wire.MAX_BATCH_BYTES:
                send(batch[-1][0] if batch else rowid)
            batch.append((rowid, encoded))
            size += len(encoded)
        send(rowid)
        delivery.finish()
    setattr(state, table, max(rowid, state.row(table)))
    if not save_state(source.path, state):
        raise CommandFailed(f"everything is stored, but {source.path.parent} cannot be written to note that.")
    return report


def _on_ack(
    path: Path, table: str, state: ImportState, report: Report, sent: list[tuple[int, bytes]], last: int
) -> Callable[[wire.Ack], None]:
    def note(ack: wire.Ack) -> None:
        report.taken += ack.accepted
        report.known += len(ack.duplicate)
        for rejection in ack.rejected:
            report.skip(sent[rejection.index][0], rejection.reason)
        setattr(state, table, last)
        save_state(path, state)

    return note


def _print(arguments: argparse.Namespace, reports: list[Report]) -> None:
    if not for_people(arguments.json):
        print_json({report.table: _shown(report) for report in reports})
        return
    rows = [[report.table, report.rows, report.taken, report.known, report.skipped] for report in reports]
    print_table(f"Imported {arguments.path}", ["table", "rows", "taken", "known already", "skipped"], rows)
    why = [
        [report.table, reason.reason, reason.rows, ", ".join(map(str, reason.examples))]
        for report in reports
        for reason in report.reasons.values()
    ]
    if why:
        print_table("\nSkipped", ["table", "why", "rows", "for instance rowid"], why, fold="why")


def _shown(report: Report) -> dict[str, Any]:
    return {
        "rows": report.rows,
        "resumed_after": report.resumed_after,
        "taken": report.taken,
        "known": report.known,
        "skipped": report.skipped,
        "reasons": list(report.reasons.values()),
    }
