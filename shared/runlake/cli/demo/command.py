"""The flags of `runlake demo`, and the order of what it does."""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path
from uuid import uuid4

from runlake import settings as settings_module
from runlake.cli.api import Api, NotReady, Unreachable
from runlake.cli.demo.fleet import run_fleet
from runlake.cli.demo.plan import plan
from runlake.cli.demo.recording import check_writable, join_recordings, read_recording
from runlake.cli.demo.replay import replay
from runlake.cli.demo.summary import compare, print_summary
from runlake.cli.failure import USAGE, CommandFailed
from runlake.cli.output import for_people, print_json
from runlake.cli.progress import progress_bar
from runlake.cli.subcommands import Subcommands
from runlake.cli.worker_client import ask_position
from runlake.settings import Settings

_ASK_MS = 3_000


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "demo",
        help="record real work: agents that measure every file of a source tree",
        description=(
            "Agents walk a source tree and a git repository, measure what they find, and are recorded. Then their own"
            " counts are compared with what the API says. Exit status 0 when they are equal."
        ),
    )
    settings_module.add_flags(parser, "http", "ingest")
    parser.add_argument("--tree", type=Path, metavar="FOLDER", help="source tree (default: the standard library)")
    parser.add_argument("--repo", type=Path, metavar="FOLDER", help="git repository (default: the one around here)")
    parser.add_argument("--files", type=int, metavar="N", help="at most N files of the tree")
    parser.add_argument("--commits", type=int, default=300, metavar="N", help="at most N commits (default: 300)")
    parser.add_argument("--agents", type=int, default=4, metavar="N", help="processes for the tree (default: 4)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="also write every message that is sent to FILE")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="send the messages of FILE again, and nothing else")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait so long for RunLake to be up")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long messages may take to arrive (default: 60)",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=demo)


def demo(arguments: argparse.Namespace) -> int:
    """Run the demo, or replay a recording of one."""
    settings = settings_module.from_arguments(arguments)
    _check(arguments)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # the agents are ended as by Ctrl-C
    try:
        if arguments.replay:
            return _replay(arguments, settings)
        return _record_work(arguments, settings)
    finally:
        signal.signal(signal.SIGTERM, before)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.replay and arguments.record:
        raise CommandFailed("--record and --replay do not go together.", USAGE)
    for name in ("agents", "files", "commits"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise CommandFailed(f"--{name}: {value} cannot be used; allowed is a number from 1", USAGE)


def _record_work(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.record:
        check_writable(arguments.record)
    api = Api(settings.http, settings.token)
    _wait_until_up(settings, api, arguments.wait)
    os.environ.update(settings.client_variables)  # for the agents
    work = plan(
        tree=arguments.tree,
        repository=arguments.repo,
        max_files=arguments.files,
        max_commits=arguments.commits,
        processes=arguments.agents,
        endpoint=settings.ingest,
        demo_id=str(uuid4()),
        record=arguments.record,
        timeout_s=arguments.timeout,
    )
    for line in work.says:
        print(line, flush=True)
    started = time.monotonic()
    with progress_bar("working", work.units) as advance:
        tallies = run_fleet(work.jobs, advance)
    took_s = time.monotonic() - started
    if arguments.record:
        messages = join_recordings(work.recordings, arguments.record)
        print(f"{messages:,} messages are in {arguments.record}; send them again with --replay {arguments.record}")
    summary = compare(api, work.demo_id, tallies, took_s, arguments.timeout)
    if arguments.json:
        print_json(summary)
    else:
        print_summary(summary, api.url)
    return 0 if summary.equal else 1


def _replay(arguments: argparse.Namespace, settings: Settings) -> int:
    messages = read_recording(arguments.replay)
    _wait_for_worker(settings, arguments.wait)
    with progress_bar("sending", len(messages)) as advance:
        result = replay(settings.ingest, messages, arguments.timeout, advance, settings.client_keys)
    if for_people(arguments.json):
        print(
            f"Sent {result.sent:,} messages again, byte for byte: {result.accepted:,} accepted,"
            f" {result.duplicates:,} duplicates, {result.rejected:,} rejected."
        )
    else:
        print_json(result)
    return 0 if result.rejected == 0 else 1


def _wait_until_up(settings: Settings, api: Api, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            api.get("/ready", patience_s=0)
            break
        except (Unreachable, NotReady):
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)
    _wait_for_worker(settings, max(0.0, deadline - time.monotonic()))


def _wait_for_worker(settings: Settings, patience_s: float) -> None:
    ask_position(settings.ingest, max(_ASK_MS, int(patience_s * 1_000)), settings.client_keys)
