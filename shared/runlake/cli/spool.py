"""`runlake spool ls|send|rm`: what agents left in the spool, and what to do about it."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from time import monotonic

from runlake import settings as settings_module
from runlake.adoption import Adoption
from runlake.cli.failure import USAGE, CommandFailed
from runlake.cli.output import for_people, print_json, print_table
from runlake.cli.subcommands import Subcommands
from runlake.intake import Intake
from runlake.lane import SenderOptions
from runlake.notices import Notices
from runlake.sender import Sender
from runlake.settings import Settings
from runlake.spoollocation import OFF, spool_folder
from runlake.spoolorphans import BAD, SpoolFacts, adopt, facts, folders
from runlake.stretch import Start

_ACK_TIMEOUT_S = 10.0
_MAX_IN_FLIGHT = 16
_NAMED = 5


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "spool",
        help="what agents could not deliver yet: ls, send, rm",
        description="Agents keep in the spool what the worker has not acknowledged. The next agent delivers what one"
        " that is gone left there; this shows it, and does it now.",
    )
    settings_module.add_flags(parser, "spool", "ingest")
    parser.set_defaults(run=list_spools, json=False)
    actions = parser.add_subparsers(metavar="ls|send|rm")
    ls = actions.add_parser("ls", help="list the spools (the default)")
    ls.add_argument("--json", action="store_true", help="print JSON")
    ls.set_defaults(run=list_spools)
    send = actions.add_parser("send", help="deliver what agents that are gone left there")
    send.add_argument("--timeout", type=float, default=60.0, metavar="S", help="give up after S seconds (default: 60)")
    send.add_argument("--any", action="store_true", help="also what was to go to another address")
    send.set_defaults(run=send_spools)
    rm = actions.add_parser("rm", help="delete spools of agents that are gone, undelivered")
    rm.add_argument("names", nargs="*", metavar="NAME", help="as `ls` shows them")
    rm.add_argument("--all", action="store_true", help="every one that has no owner")
    rm.add_argument("--bad", action="store_true", help="only the files that could not be read")
    rm.set_defaults(run=remove_spools)
    for action in (ls, send, rm):  # SUPPRESS: what was given before the action holds
        action.add_argument("--spool", metavar="VALUE", default=argparse.SUPPRESS, help="see RUNLAKE_SPOOL")
    send.add_argument("--ingest", metavar="VALUE", default=argparse.SUPPRESS, help="see RUNLAKE_INGEST")


def list_spools(arguments: argparse.Namespace) -> int:
    """Print one line for each spool."""
    root = _root(settings_module.from_arguments(arguments))
    found = [facts(folder) for folder in folders(root)]
    if not for_people(arguments.json):
        print_json([{"name": spool.folder.name, **_as_json(spool)} for spool in found])
        return 0
    rows = [
        [
            spool.folder.name,
            "yes" if spool.owned else "no",
            spool.messages,
            spool.bytes,
            spool.bad_files,
            spool.endpoint,
        ]
        for spool in found
    ]
    waiting = sum(spool.messages for spool in found)
    print_table(
        f"{waiting:,} messages wait in {root}",
        ["spool", "in use", "messages", "bytes", "bad files", "for"],
        rows,
        cut=("spool", "for"),
    )
    return 0


def send_spools(arguments: argparse.Namespace) -> int:
    """Deliver now what has no owner. Raises CommandFailed when the worker does not take it in time."""
    settings = settings_module.from_arguments(arguments)
    root = _root(settings)
    adoption = Adoption(root, None if arguments.any else settings.ingest, Random())
    keys = settings.client_keys
    options = SenderOptions(
        endpoint=settings.ingest,
        interval_s=0.02,
        ack_timeout_s=_ACK_TIMEOUT_S,
        max_in_flight=_MAX_IN_FLIGHT,
        keys=lambda: keys,
    )
    start, notices = Start(), Notices()
    sender = Sender(options, "runlake-spool", start, Intake(start, 0, 0, None, notices), notices, adoption)
    thread = threading.Thread(target=sender.run, name="runlake-sender", daemon=True)
    thread.start()
    end, pause = monotonic() + arguments.timeout, threading.Event()
    while not adoption.idle and monotonic() < end:
        pause.wait(0.02)
    done, connections = adoption.idle, sender.connections
    sender.stop(monotonic())
    thread.join(2.0)
    if not done:
        why = "the worker did not take it all" if connections else "no worker answers"
        raise CommandFailed(
            f"After {arguments.timeout:g} s, {why} at {settings.ingest}; {adoption.messages:,} messages were delivered,"
            " the rest is still in the spool."
        )
    lost = f" {adoption.lost:,} records could not be read; their files are kept as {BAD}." if adoption.lost else ""
    strange = f" {adoption.set_aside:,} files are no spool's; they are kept as {BAD}." if adoption.set_aside else ""
    done_so_far = f"{adoption.messages:,} messages of {adoption.spools:,} spools were delivered to {settings.ingest}."
    if adoption.unreadable:
        named = "; ".join(f"{name} ({error})" for name, error in list(adoption.unreadable.items())[:_NAMED])
        raise CommandFailed(
            f"{done_so_far}{lost}{strange} {len(adoption.unreadable):,} spools could not be read: {named}"
        )
    print(f"{done_so_far}{lost}{strange}")
    return 0


def remove_spools(arguments: argparse.Namespace) -> int:
    """Delete what has no owner. Raises CommandFailed for a name that is unknown or in use."""
    if bool(arguments.names) == bool(arguments.all or arguments.bad):
        raise CommandFailed("Say which: names as `runlake spool ls` shows them, --all, or --bad.", USAGE)
    root = _root(settings_module.from_arguments(arguments))
    removed = 0
    for folder in _chosen(root, arguments):
        if arguments.bad and not arguments.all:
            for path in folder.glob(f"*{BAD}*"):
                path.unlink()
                removed += 1
            orphan = adopt(folder)
            if orphan is not None:
                orphan.close()  # goes, if that was all
            continue
        orphan = adopt(folder)
        if orphan is None:
            if arguments.names:
                raise CommandFailed(f"{folder.name} is in use by an agent that runs.")
            continue
        orphan.remove()
        orphan.close()
        removed += 1
    print(f"{removed:,} {'files' if arguments.bad and not arguments.all else 'spools'} removed from {root}.")
    return 0


def _chosen(root: Path, arguments: argparse.Namespace) -> Iterator[Path]:
    known = {folder.name: folder for folder in folders(root)}
    for name in arguments.names or known:
        if name not in known:
            raise CommandFailed(f"There is no spool {name} in {root}; `runlake spool ls` shows what there is.", USAGE)
        yield known[name]


def _root(settings: Settings) -> Path:
    if settings.spool == OFF:
        raise CommandFailed("The spool is off (RUNLAKE_SPOOL); agents keep what is not delivered in memory.")
    try:
        root = spool_folder(settings.spool)
    except OSError as error:
        raise CommandFailed(f"There is no spool, since {error}; set RUNLAKE_SPOOL to a folder.") from None
    if root is None:
        raise CommandFailed("The spool is off (RUNLAKE_SPOOL); agents keep what is not delivered in memory.")
    try:
        with os.scandir(root):
            return root
    except FileNotFoundError:  # no agent has needed one yet
        return root
    except OSError as error:
        raise CommandFailed(
            f"{root} cannot be read: {error.strerror}. RUNLAKE_SPOOL says where the spools are."
        ) from None


def _as_json(spool: SpoolFacts) -> dict[str, object]:
    return {
        "in_use": spool.owned,
        "producer": spool.producer,
        "endpoint": spool.endpoint,
        "messages": spool.messages,
        "bytes": spool.bytes,
        "bad_files": spool.bad_files,
    }
