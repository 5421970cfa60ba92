"""`runlake prices`: what costs are computed by."""

from __future__ import annotations

import argparse

from runlake import settings as settings_module
from runlake.cli.api import Api
from runlake.cli.output import clock, for_people, print_json_text, print_table
from runlake.cli.subcommands import Subcommands

PATH = "/api/v1/prices"
_COLUMNS = ("input", "output", "cache_read", "cache_write")


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "prices",
        help="the price list that costs are computed by",
        description="The price list in force: US dollars per million tokens of each kind, from a day on. JSON when the"
        " output is not a terminal.",
    )
    settings_module.add_flags(parser, "http")
    parser.add_argument("--model", metavar="TEXT", default="", help="only models whose name holds this")
    parser.add_argument("--json", action="store_true", help="print the API's answer as it is")
    parser.set_defaults(run=list_prices)


def list_prices(arguments: argparse.Namespace) -> int:
    """Print the list."""
    settings = settings_module.from_arguments(arguments)
    api = Api(settings.http, settings.token)
    text = api.text(PATH)
    if not for_people(arguments.json):
        print_json_text(text)
        return 0
    answer = api.decoded(text)
    rows = [
        [one["model"], (clock(one["valid_from"]) or "")[:10], *(_dollars(one[name]) for name in _COLUMNS)]
        for one in answer["prices"]
        if arguments.model in one["model"]
    ]
    title = f"version {answer['version']}, {answer['source'] or 'none yet'}; US dollars per million tokens"
    if answer["runs_to_reprice"]:
        title += f"; {answer['runs_to_reprice']:,} runs still show costs by another version"
    print_table(title, ["model", "from", *_COLUMNS], rows, cut=("model",))
    return 0


def _dollars(price: float | None) -> str | None:
    return None if price is None else f"{price:.9f}".rstrip("0").rstrip(".")
