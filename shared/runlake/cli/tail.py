"""`runlake tail`: changes of runs and run events as they happen. JSON lines when the output is not a terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable

import msgspec

from runlake import settings as settings_module
from runlake.cli.filters import add_filters, filter_params
from runlake.cli.follow import Told, follow
from runlake.cli.output import STATUS_STYLES, cell, clock, for_people, rich_can_print, span
from runlake.cli.subcommands import Subcommands

Show = Callable[[str, str], None]
"""Prints one line in a style."""


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "tail",
        help="watch runs and events as they happen",
        description="Watch runs and events as they happen, until Ctrl-C. JSON lines when the output is not a terminal.",
    )
    settings_module.add_flags(parser, "http")
    parser.add_argument("--count", type=int, metavar="N", help="end after N of them")
    parser.add_argument("--from", dest="position", metavar="POSITION", help="begin after this position, not now")
    parser.add_argument("--type", metavar="TYPE", help="run events of this type only, and no runs")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    add_filters(parser)
    parser.set_defaults(run=tail)


def tail(arguments: argparse.Namespace) -> int:
    """Print what the stream tells, until it has told enough."""
    settings = settings_module.from_arguments(arguments)
    params = [*filter_params(arguments), ("type", arguments.type)]
    told = follow(settings.http, "/api/v1/stream", params, since=arguments.position, token=settings.token)
    print_told(told, people=for_people(arguments.json), count=arguments.count)
    return 0


def print_told(told: Iterable[Told], *, people: bool, count: int | None = None) -> None:
    """Print events as they come; a `count` ends it after so many runs and run events."""
    show = _shower() if people else None
    shown = 0
    for one in told:
        if show is None:
            line = {"kind": one.kind, "position": one.position, "data": one.data}
            sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
            sys.stdout.buffer.flush()
        else:
            text, style = line_of(one)
            if text:
                show(text, style)
        shown += one.kind in ("run", "event")
        if count is not None and shown >= count:
            return


def line_of(told: Told) -> tuple[str, str]:
    """What people read of an event, and in which style; empty for what says nothing to them."""
    data = told.data
    match told.kind:
        case "run":
            took = span(data["duration_ms"])
            parts = [data["agent_name"], data["job_type"], data["status"], took, data["run_id"], data["error_summary"]]
            shown = "  ".join(cell(part) for part in parts if part is not None)
            return f"{clock(data['updated_at'], data['updated_at'][:10])}  {shown}", STATUS_STYLES.get(
                data["status"], ""
            )
        case "event":
            shown = f"{cell(data['type'])}  {cell(data['run_id'])}  {cell(data['payload'])}"
            return f"{clock(data['ts'], data['ts'][:10])}    {shown}", "dim"
        case "stale":
            shown = "  ".join(cell(data[name]) for name in ("agent_name", "job_type", "run_id"))
            return f"{clock(data['since'], data['since'][:10])}  {shown}  stale: silent since then", "yellow"
        case "revived":
            shown = "  ".join(cell(data[name]) for name in ("agent_name", "job_type", "run_id") if data[name])
            return f"{' ' * 8}  {shown}  revived: {cell(data['status'])}", "green"
        case "coalesced":
            return f"… {data['events']:,} events and {data['changes']:,} changes more than can be shown", "yellow"
        case "lost" | "dropped":
            return f"… {cell(data['reason'])}", "yellow"
    return "", ""


def _shower() -> Show:
    if not rich_can_print():
        return _plainly
    from rich.console import Console  # noqa: PLC0415 (an extra, loaded when it is used)
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)

    def show(text: str, style: str) -> None:
        console.print(Text(text, style=style), overflow="ellipsis", no_wrap=True)

    return show


def _plainly(text: str, style: str) -> None:
    del style  # a terminal that can do nothing with it
    print(text, flush=True)
