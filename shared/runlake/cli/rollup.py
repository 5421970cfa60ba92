"""`runlake rollup`: runs counted and summed by what they have in common."""

from __future__ import annotations

import argparse
from typing import Any

from runlake import settings as settings_module
from runlake.cli.api import Api
from runlake.cli.filters import add_filters, filter_params
from runlake.cli.output import for_people, print_json_text, print_table, span
from runlake.cli.subcommands import Subcommands
from runlake.fields import DIMENSIONS

_BUCKETS = {"minute": 16, "hour": 13, "day": 10, "week": 10, "month": 7}
"""Each bucket, and how much of its start people need to see."""
_HEADS = {"success_rate": "rate", "avg_duration_ms": "avg", "max_duration_ms": "max"}
_SHOWN = ("runs", "success", "partial", "failure", "success_rate", "avg_duration_ms", "max_duration_ms", "events")


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "rollup",
        help="count and sum runs by agent, job, day, …",
        description="Count and sum runs by what they have in common. JSON when the output is not a terminal.",
        epilog="For instance: runlake rollup --by agent_name --bucket day --since 7d",
    )
    settings_module.add_flags(parser, "http")
    parser.add_argument(
        "--by",
        metavar="FIELD[,FIELD…]",
        help=f"one line for each of these; up to 4 of {', '.join(DIMENSIONS)} (default: one line in all)",
    )
    parser.add_argument("--bucket", choices=_BUCKETS, help="and one for each of these of the start time")
    parser.add_argument("--measures", metavar="NAME[,NAME…]", help="what to compute (default: the API's)")
    parser.add_argument("--order-by", metavar="[-]NAME", help="the column to sort by; - for the largest first")
    parser.add_argument(
        "--tz", metavar="ZONE", help="the zone of the buckets, for instance Europe/Berlin (default: UTC)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="how many lines, 1 to 1000")
    parser.add_argument("--json", action="store_true", help="print the API's answer as it is")
    add_filters(parser)
    parser.set_defaults(run=rollup)


def rollup(arguments: argparse.Namespace) -> int:
    """Print one rollup."""
    settings = settings_module.from_arguments(arguments)
    api = Api(settings.http, settings.token)
    params: list[tuple[str, object]] = [
        ("group_by", arguments.by),
        ("bucket", arguments.bucket),
        ("measures", arguments.measures),
        ("order_by", arguments.order_by),
        ("tz", arguments.tz),
        ("limit", arguments.limit),
        *filter_params(arguments),
    ]
    text = api.text("/api/v1/rollups", params)
    if not for_people(arguments.json):
        print_json_text(text)
        return 0
    answer = api.decoded(text)
    keys = [*answer["group_by"], *(["bucket"] if answer["bucket"] else [])]
    measured = arguments.measures.split(",") if arguments.measures else list(_SHOWN)
    columns = [*keys, *(name for name in measured if name in answer["totals"])]
    rows = [[_value(name, row, answer["bucket"]) for name in columns] for row in answer["rows"]]
    if rows and keys:
        totals = [_value(name, answer["totals"], None) for name in columns[len(keys) :]]
        rows.append(["total", *([""] * (len(keys) - 1)), *totals])
    cut = ", cut at the limit" if answer["truncated"] else ""
    heads = [_HEADS.get(name, name) for name in columns]
    print_table(f"{answer['totals'].get('runs', 0):,} runs{cut}", heads, rows, cut=keys)
    return 0


def _value(name: str, row: dict[str, Any], bucket: str | None) -> object:
    value = row.get(name)
    if name == "bucket" and isinstance(value, str):
        return value[: _BUCKETS[bucket or "minute"]].replace("T", " ")
    return span(value) if name.endswith("duration_ms") else value
