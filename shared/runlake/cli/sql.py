"""`runlake sql "SELECT …"`: one SELECT over the views `runs` and `events`."""

from __future__ import annotations

import argparse
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from runlake import settings as settings_module
from runlake.cli.failure import USAGE, CommandFailed
from runlake.cli.output import for_people, print_table
from runlake.cli.outputfile import format_of, output_file
from runlake.cli.subcommands import Subcommands
from runlake.clienthttp import ClientHttp

_TIMEOUT_S = 900.0


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "sql",
        help="run one SELECT over runs and events",
        description="Run one SELECT over the views `runs` and `events`, where the query process has RUNLAKE_SQL=on."
        " A table in a terminal, JSON otherwise.",
        epilog="For instance: runlake sql 'SELECT model, sum(cost_usd) FROM runs GROUP BY ALL'",
    )
    settings_module.add_flags(parser, "http")
    parser.add_argument("statement", metavar="SELECT", help="the statement; - reads it from standard input")
    parser.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="a value for $NAME, as text; may be repeated"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="how many rows at most (default: 10000)")
    parser.add_argument(
        "--format", choices=("json", "csv", "ndjson", "parquet", "arrow"), help="default: by the ending of FILE"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    parser.set_defaults(run=sql)


def sql(arguments: argparse.Namespace) -> int:
    """Print the rows of one statement."""
    settings = settings_module.from_arguments(arguments)
    statement = sys.stdin.read() if arguments.statement == "-" else arguments.statement
    body: dict[str, Any] = {"sql": statement, "parameters": dict(map(_parameter, arguments.param))}
    if arguments.limit is not None:
        body["limit"] = arguments.limit
    client = ClientHttp(f"http://{settings.http}", settings.token or None, _TIMEOUT_S)
    kind = arguments.format or format_of(arguments.output, "")
    if not kind and arguments.output is None and for_people(False):
        _print(client.post("/api/v1/sql", body).value)
        return 0
    with client.post_download(f"/api/v1/sql?format={kind or 'json'}", body) as download:
        with output_file(arguments.output, kind) as file:
            for piece in download.pieces():
                file.write(piece)
        if download.truncated:
            print("runlake: there are more rows than these; raise --limit, or ask for less", file=sys.stderr)
    return 0


def _print(answer: dict[str, Any]) -> None:
    columns = [column["name"] for column in answer["columns"]]
    more = ", and there are more" if answer["truncated"] else ""
    rows = [[_shown(row[name]) for name in columns] for row in answer["rows"]]
    print_table(f"{len(rows):,} rows{more}", columns, rows, cut=columns)


def _shown(value: object) -> object:
    return f"{value:f}" if isinstance(value, Decimal) else value


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CommandFailed(f"--param {text!r} cannot be used; write NAME=VALUE.", USAGE)
    return name, value
