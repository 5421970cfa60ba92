"""`runlake export runs|events|rollup`: all that match, as CSV, NDJSON or Parquet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import BinaryIO

from runlake import settings as settings_module
from runlake.cli.failure import CommandFailed
from runlake.cli.filters import add_filters, filter_params
from runlake.cli.outputfile import format_of, output_file
from runlake.cli.progress import progress_bar, waiting
from runlake.cli.rowcount import RowCount
from runlake.cli.subcommands import Subcommands
from runlake.client import connect
from runlake.clienthttp import EXPORT_TIMEOUT_S, Download

_PATHS = {"runs": "/api/v1/runs", "events": "/api/v1/events", "rollup": "/api/v1/rollups"}
_EVENT_TIMES = {"start_time_from": "ts_from", "start_time_to": "ts_to"}
_WAITING = {
    "parquet": "waiting for the file (Parquet comes when the server has all of it)",
    "csv": "waiting for the first rows",
    "ndjson": "waiting for the first rows",
}


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "export",
        help="write runs, events or a rollup to a file, all that match",
        description="Write all that match as CSV, NDJSON or Parquet, at one position of the log.",
        epilog="For instance: runlake export runs --status failure --since 30d --output failures.parquet",
    )
    settings_module.add_flags(parser, "http")
    parser.add_argument("what", choices=_PATHS, help="for events, --since and --until are of the events' own time")
    parser.add_argument(
        "--format", choices=("csv", "ndjson", "parquet"), help="default: by the ending of FILE, else ndjson"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="the newest N runs, or the first N groups (default: all)"
    )
    parser.add_argument("--type", metavar="TYPE", help="events of this type")
    rollup = parser.add_argument_group("rollup", "As of `runlake rollup`.")
    rollup.add_argument("--by", metavar="FIELD[,FIELD…]")
    rollup.add_argument("--bucket", choices=("minute", "hour", "day", "week", "month"))
    rollup.add_argument("--measures", metavar="NAME[,NAME…]")
    rollup.add_argument("--order-by", metavar="[-]NAME")
    rollup.add_argument("--tz", metavar="ZONE")
    add_filters(parser)
    parser.set_defaults(run=export)


def export(arguments: argparse.Namespace) -> int:
    """Write one export, and say on standard error what it was."""
    settings = settings_module.from_arguments(arguments)
    kind = arguments.format or format_of(arguments.output, "ndjson")
    parameters: dict[str, object] = {
        "format": kind,
        "limit": arguments.limit,
        "type": arguments.type,
        "group_by": arguments.by,
        "bucket": arguments.bucket,
        "measures": arguments.measures,
        "order_by": arguments.order_by,
        "tz": arguments.tz,
    }
    asked: dict[str, list[str]] = {name: [str(value)] for name, value in parameters.items() if value is not None}
    for name, value in filter_params(arguments):
        asked.setdefault(_EVENT_TIMES.get(name, name) if arguments.what == "events" else name, []).append(str(value))
    client = connect(f"http://{settings.http}", settings.token or None, timeout_s=EXPORT_TIMEOUT_S)
    with output_file(arguments.output, kind) as file:
        with waiting(_WAITING[kind]):
            download = client.download(_PATHS[arguments.what], asked)
        with download:
            _write(download, file, kind, "groups" if arguments.what == "rollup" else arguments.what)
    print(f"position {download.position}", file=sys.stderr)
    return 0


def _write(download: Download, file: BinaryIO, kind: str, what: str) -> None:
    """Write what comes, beside a bar of rows (of Parquet: bytes). Raises CommandFailed when rows are missing."""
    if kind == "parquet":
        with progress_bar(f"{download.rows:,} {what}, bytes", download.bytes) as advance:
            for piece in download.pieces():
                file.write(piece)
                advance(len(piece))
        return
    counting, rows = RowCount(kind), 0
    with progress_bar(what, download.rows) as advance:
        for piece in download.pieces():
            file.write(piece)
            more = counting.more(piece)
            rows += more
            advance(more)
    if rows != download.rows:
        raise CommandFailed(f"The answer broke off after {rows:,} of {download.rows:,} {what}. Try again.")
