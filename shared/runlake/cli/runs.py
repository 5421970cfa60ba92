"""`runlake runs` and `runlake runs show RUN`: what was recorded."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from runlake import settings as settings_module
from runlake.cli.api import Api, in_path
from runlake.cli.commits import print_commit, print_tree
from runlake.cli.failure import USAGE, CommandFailed
from runlake.cli.filters import add_filters, filter_params
from runlake.cli.follow import follow
from runlake.cli.output import cell, clock, for_people, print_json_text, print_table, span, terminal_width
from runlake.cli.subcommands import Subcommands
from runlake.cli.tail import print_told

_EVENT_ROWS = 50
_TREE_ROWS = 50


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "runs",
        help="list runs, newest first; `runs show RUN` shows one",
        description="List runs, newest first. JSON when the output is not a terminal.",
        epilog="`runlake runs show RUN` shows one run with its events; RUN is a run_id or an event_id.",
    )
    settings_module.add_flags(parser, "http")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="how many runs, 1 to 1000 (default: 20)")
    parser.add_argument("--offset", type=int, metavar="N", help="how many to leave out first")
    parser.add_argument("--json", action="store_true", help="print the API's answer as it is")
    parser.add_argument("--commit", metavar="SHA", help="the runs of this commit and all below them; 4 characters do")
    add_filters(parser)
    parser.set_defaults(run=list_runs)

    actions = parser.add_subparsers(metavar="show RUN")
    show = actions.add_parser("show", help="show one run with its events")
    show.add_argument("run_id", metavar="RUN", help="a run_id (the latest run of that name), or an event_id")
    # SUPPRESS: what was given before `show` holds.
    show.add_argument("--http", metavar="VALUE", default=argparse.SUPPRESS, help="see RUNLAKE_HTTP")
    show.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    show.add_argument(
        "--events",
        type=int,
        default=_EVENT_ROWS,
        metavar="N",
        help=f"how many events, 1 to 999 (default: {_EVENT_ROWS})",
    )
    show.add_argument("--follow", action="store_true", help="go on with its events as they happen, until Ctrl-C")
    show.set_defaults(run=show_run)


def list_runs(arguments: argparse.Namespace) -> int:
    """Print one page of runs."""
    settings = settings_module.from_arguments(arguments)
    api = Api(settings.http, settings.token)
    params = [("limit", arguments.limit), ("offset", arguments.offset), *filter_params(arguments)]
    if arguments.commit:
        if filter_params(arguments):
            raise CommandFailed("--commit finds all runs of a commit, and goes with no filter", USAGE)
        return print_commit(api, arguments.commit, arguments.limit, people=for_people(arguments.json))
    text = api.text("/api/v1/runs", params)
    if not for_people(arguments.json):
        print_json_text(text)
        return 0
    page = api.decoded(text)
    today = datetime.now(UTC).date().isoformat()
    shown = [name for name in _COLUMNS if terminal_width() >= _WIDE or name not in _WIDE_ONLY]
    rows = [[_COLUMNS[name](run, today) for name in shown] for run in page["runs"]]
    print_table(f"{len(rows):,} of {page['total']:,} runs, times in UTC", shown, rows, cut=("agent", "job", "error"))
    return 0


_WIDE = 120
_WIDE_ONLY = ("job", "error")
_COLUMNS: dict[str, Callable[[dict[str, Any], str], object]] = {
    "started": lambda run, today: clock(run["start_time"], today),
    "agent": lambda run, _: run["agent_name"],
    "job": lambda run, _: run["job_type"],
    "status": lambda run, _: run["status"],
    "took": lambda run, _: span(run["duration_ms"]),
    "run": lambda run, _: run["run_id"],
    "error": lambda run, _: run["error_summary"],
}


def show_run(arguments: argparse.Namespace) -> int:
    """Print one run: its fields that are set, and its events."""
    settings = settings_module.from_arguments(arguments)
    address = settings.http
    api = Api(address, settings.token)
    path = f"/api/v1/runs/{in_path(arguments.run_id)}"
    text = api.text(path)
    run = api.decoded(text)
    if arguments.follow:
        told = follow(address, f"/api/v1/runs/{run['event_id']}/events", since="", token=settings.token)
        print_told(told, people=for_people(arguments.json))
        return 0
    # By its own key, so that all answers are of the same run even if another run takes its name in between.
    path = f"/api/v1/runs/{run['event_id']}"
    tree = api.text(f"{path}/tree", [("limit", _TREE_ROWS)])
    people = for_people(arguments.json)
    events = api.text(f"{path}/events", [("limit", arguments.events + people)])
    if not people:
        print_json_text(b'{"run":%b,"events":%b,"tree":%b}' % (text, events, tree))
        return 0
    fields = [
        [name, span(value) if name == "duration_ms" else value] for name, value in run.items() if value is not None
    ]
    print_table(cell(run["run_id"]), ["field", "value"], fields, fold="value")
    below = api.decoded(tree)
    if below["total"] > 1:
        print_tree("\nWith all below it", below)
    came = api.decoded(events)
    rows = [[clock(event["ts"]), event["type"], event["payload"]] for event in came[: arguments.events]]
    title = f"\nThe first {len(rows):,} events" if len(came) > len(rows) else f"\n{len(rows):,} events"
    print_table(title, ["at", "event", "payload"], rows, cut=("payload",))
    return 0
