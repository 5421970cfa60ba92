"""`runlake ingest` and `runlake query`: one process each, in the foreground, in the place of this one."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from runlake.cli.failure import CommandFailed
from runlake.cli.subcommands import Subcommands

PROCESSES = {"ingest": "runlake_ingest", "query": "runlake_query"}
_HELP = {
    "ingest": "run the ingest worker alone, in the foreground",
    "query": "run one query process alone, in the foreground",
}


def add_to(commands: Subcommands) -> None:
    """List the two processes in the help; their own programs read their flags."""
    for name, text in _HELP.items():
        commands.add_parser(name, help=text, add_help=False)


def command_line(name: str, flags: Sequence[str]) -> list[str]:
    """What starts the process `name` with this Python. Raises CommandFailed when it is not installed."""
    module = PROCESSES[name]
    missing = [package for package in (module, "duckdb") if importlib.util.find_spec(package) is None]
    if missing:
        raise CommandFailed(
            f"{missing[0]} is not installed here; install the servers with `pip install 'runlake[server]'`."
        )
    # -P keeps files of the working folder from being imported in the place of installed packages.
    return [sys.executable, "-P", "-m", module, *flags]


def replace_this_process(name: str, flags: Sequence[str]) -> NoReturn:
    """Become the process `name`, so that signals and the exit status are its own. Raises CommandFailed."""
    command = command_line(name, flags)
    sys.stdout.flush()
    os.execv(command[0], command)
