"""`runlake up`: the ingest worker and a query process in one terminal, ended by one Ctrl-C."""

from __future__ import annotations

import argparse
import os

from runlake import settings as settings_module
from runlake.cli.child import Child
from runlake.cli.failure import CommandFailed
from runlake.cli.foreground import PROCESSES, command_line
from runlake.cli.ports import taken
from runlake.cli.reporters import HumanReporter, JsonReporter
from runlake.cli.subcommands import Subcommands
from runlake.cli.supervisor import Supervisor
from runlake.settings import Settings, variable

_LISTENING = {"http": "http", "ingest_bind": "ingest", "push_bind": "push", "feed_bind": "feed", "metrics": "metrics"}
"""The settings that name what the two processes listen on, and the ones to change for each."""


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "up",
        help="start RunLake here: ingest and query, until Ctrl-C",
        description="Run the ingest worker and a query process until Ctrl-C. One that dies is started again.",
    )
    parser.add_argument("--json-logs", action="store_true", help="print JSON lines instead of lines for people")
    parser.add_argument(
        "--stop-timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long the processes may take to stop before they are killed (default: 30)",
    )
    settings_module.add_flags(parser)
    parser.set_defaults(run=up)


def up(arguments: argparse.Namespace) -> int:
    """Run both processes until a signal. Returns 0 when they stopped as told, 1 when one failed or had to be killed."""
    settings = settings_module.from_arguments(arguments)
    _refuse_taken_ports(settings)
    flags = [] if arguments.settings is None else ["--settings", str(arguments.settings)]
    children = [Child(name, command_line(name, flags), _environment(arguments)) for name in PROCESSES]
    reporter = JsonReporter() if arguments.json_logs else HumanReporter(settings)
    return Supervisor(children, reporter, arguments.stop_timeout).run()


def _environment(arguments: argparse.Namespace) -> dict[str, str]:
    """The environment of both processes, with the flags of `up` in it: each process has flags for its own settings
    only, and variables for all."""
    flags = {name: getattr(arguments, name, None) for name in Settings.__struct_fields__}
    return {**os.environ, **{variable(name): value for name, value in flags.items() if value is not None}}


def _refuse_taken_ports(settings: Settings) -> None:
    """Say which setting to change before the processes trip over it one after the other."""
    problems = []
    for name, setting in _LISTENING.items():
        address = getattr(settings, name)
        reason = taken(address)
        if reason:
            problems.append(f"{address} cannot be used ({reason}): set {variable(setting)} to another address")
    if problems:
        raise CommandFailed(
            "; ".join(problems) + ". Is RunLake running already? `runlake doctor` tells what answers there."
        )
