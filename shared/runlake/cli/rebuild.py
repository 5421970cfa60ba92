"""`runlake rebuild`: makes a query process's read model anew from the lake."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import subprocess
import sys
from typing import Any

import msgspec

from runlake import settings as settings_module
from runlake.cli.failure import CommandFailed
from runlake.cli.lakehere import need_lake
from runlake.cli.progress import progress_bar
from runlake.cli.subcommands import Subcommands
from runlake.settings import Settings


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "rebuild",
        help="make the read model of a query process anew",
        description="Make the read model anew from the lake, while its query process does not run. The old one stays"
        " until the new one is complete; an interrupted rebuild changes nothing.",
    )
    settings_module.add_flags(parser, "data", "catalog", "storage", "read_model", "recent_days")
    parser.set_defaults(run=rebuild)


def rebuild(arguments: argparse.Namespace) -> int:
    """Have the query side do it, in a process of its own. Raises CommandFailed."""
    settings = settings_module.from_arguments(arguments)
    need_lake(settings)
    if importlib.util.find_spec("runlake_query") is None:
        raise CommandFailed("the query side is not installed here; install it with `pip install 'runlake[server]'`.")
    flags = {
        "--data": settings.data, "--storage": settings.storage,
        "--read-model": settings.read_model, "--recent-days": settings.recent_days, "--log-level": "error",
    }  # fmt: skip
    command = [
        sys.executable,
        "-P",
        "-m",
        "runlake_query.rebuild",
        *(str(part) for flag in flags.items() for part in flag),
    ]
    # No flag, which everybody on this machine can see: it may hold a password.
    environment = {**os.environ, settings_module.variable("catalog"): settings.catalog}
    total = _messages(settings)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        try:
            last = _follow(process, total)
        except BaseException:
            process.terminate()
            raise
    if "positions" not in last:
        raise CommandFailed(last.get("error", "the query side ended without a word; the old read model is as it was."))
    print(f"The read model in {settings.read_model} is new, and has all {sum(last['positions'].values()):,} messages.")
    return 0


def _follow(process: subprocess.Popen[bytes], total: int) -> dict[str, Any]:
    """Show how far it is, once it has begun; returns the last that it said."""
    assert process.stdout is not None
    lines = (msgspec.json.decode(line, type=dict[str, Any]) for line in process.stdout)
    first = last = next(lines, {})
    if "error" in first:
        return first
    done = 0
    with progress_bar("Rebuilding, messages", total) as advance:
        for last in itertools.chain((first,), lines):
            now = last["done"] if "done" in last else sum(last.get("positions", {}).values())
            advance(max(0, now - done))
            done = max(done, now)
    return last


def _messages(settings: Settings) -> int:
    """How many messages the lake has."""
    from runlake.lake.attach import read_lake  # noqa: PLC0415 (an extra)
    from runlake.lake.verify import flushed  # noqa: PLC0415

    with read_lake(settings.lake) as connection:
        return sum(seq for _, seq in flushed(connection).values())
