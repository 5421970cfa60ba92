"""`runlake producers`: the books."""

from __future__ import annotations

import argparse

from runlake import settings as settings_module
from runlake.cli.api import Api
from runlake.cli.output import clock, for_people, print_json_text, print_table
from runlake.cli.subcommands import Subcommands

_BOOKS = ("received", "accepted", "duplicate", "rejected", "gaps")


def add_to(commands: Subcommands) -> None:
    what = "what each producer sent, and what became of it, the latest seen first"
    parser = commands.add_parser(
        "producers", help=what, description=f"{what.capitalize()}. JSON when the output is not a terminal."
    )
    settings_module.add_flags(parser, "http")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="how many, 1 to 1000 (default: 100)")
    parser.add_argument("--json", action="store_true", help="print the API's answer as it is")
    parser.set_defaults(run=list_producers)


def list_producers(arguments: argparse.Namespace) -> int:
    """Print the books."""
    settings = settings_module.from_arguments(arguments)
    api = Api(settings.http, settings.token)
    text = api.text("/api/v1/producers", [("limit", arguments.limit)])
    if not for_people(arguments.json):
        print_json_text(text)
        return 0
    answer = api.decoded(text)
    rows = [[one["producer"], *(one[name] for name in _BOOKS), clock(one["last_seen"])] for one in answer["producers"]]
    title = f"{len(rows):,} of {answer['total']:,} producers, times in UTC"
    print_table(title, ["producer", *_BOOKS, "last seen"], rows, cut=("producer",))
    return 0
