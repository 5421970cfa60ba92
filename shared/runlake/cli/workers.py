"""`runlake workers`: the list of workers of a cluster, and how it changes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from runlake import settings as settings_module
from runlake.cli.failure import USAGE, CommandFailed
from runlake.cli.output import for_people, print_json, print_table
from runlake.cli.subcommands import Subcommands
from runlake.cli.workerchange import Change, open_members
from runlake.cli.workerhandover import hand_over
from runlake.wire import Member

if TYPE_CHECKING:
    from runlake.lake.members import Members

_ABOUT = """\
A catalog in PostgreSQL may have several workers. Each message has one home among those of a list, which changes by
these commands: all workers stop taking for a moment, bring what they have to the lake, and go on by the new list. A
worker that does not run holds a change up; Ctrl-C takes the change back. A command that was killed may be given again.
"""
_RETIRE = """\
For a worker that is gone for good: end it first, where you can. One that is only stopped, or cut off from the catalog,
is shut out when nothing was heard of it for 10 s: it commits nothing more, and ends when it learns of that. While the
catalog is out of its reach it goes on acknowledging. What it acknowledged is in its journal, which --journal brings to
the lake; what comes into that after it has been read or copied, or all of it with --journal-lost, is given up, unless
`runlake replay --journal` brings it later.
"""


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser("workers", help="the list of workers of a cluster", description=_ABOUT)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    ls = actions.add_parser("ls", help="which workers there are, and whether they run")
    ls.set_defaults(run=list_workers)
    add = actions.add_parser("add", help="let workers take messages")
    add.add_argument("worker", nargs="*", metavar="ID", help="by default all that run and are not on the list")
    add.set_defaults(run=add_workers)
    remove = actions.add_parser("remove", help="take a worker that runs off the list; then it may be stopped")
    remove.add_argument("worker", metavar="ID")
    remove.set_defaults(run=remove_worker)
    retire = actions.add_parser("retire", help="take a worker off the list that is gone for good", description=_RETIRE)
    retire.add_argument("worker", metavar="ID")
    journal = retire.add_mutually_exclusive_group(required=True)
    journal.add_argument("--journal", metavar="FOLDER", type=Path, help="its data folder, or a copy: goes to the lake")
    journal.add_argument(
        "--journal-lost", action="store_true",
        help="nothing is left of it: what it had acknowledged in its last seconds and not yet flushed is lost",
    )  # fmt: skip
    retire.set_defaults(run=retire_worker)
    cancel = actions.add_parser("cancel", help="take a change back that is under way")
    cancel.set_defaults(run=cancel_change)
    for action in (ls, add, remove, retire, cancel):
        settings_module.add_flags(action, "data", "catalog", "storage")
        action.add_argument("--json", action="store_true", help="print JSON, as when the output is not a terminal")


def list_workers(arguments: argparse.Namespace) -> int:
    """Print who is on the list, who waits to be, and who has gone."""
    with open_members(arguments) as (_, members):
        standing, known = members.standing(), members.known()
        running = members.running(one.worker for one in known)
    listed = {member.worker: member.endpoint for member in standing.active.members}
    following = standing.next.members if standing.next is not None else standing.active.members
    to_be = {member.worker for member in following}

    def state(worker: UUID, retired: bool) -> str:
        if (worker in listed) != (worker in to_be):
            return "leaving" if worker in listed else "joining"
        return "member" if worker in listed else "retired" if retired else "waiting" if worker in running else "gone"

    rows = [
        {
            "worker": str(one.worker),
            "state": state(one.worker, one.retired_at is not None),
            "running": one.worker in running,
            "reported": one.worker in standing.reported if standing.next is not None else None,
            "endpoint": listed.get(one.worker, one.endpoint),
            "host": one.host,
            "since": one.since,
        }
        for one in known
    ]
    changing = None if standing.next is None else standing.next.version
    if not for_people(arguments.json):
        print_json({"version": standing.active.version, "changing_to": changing, "workers": rows})
        return 0
    title = f"list {standing.active.version}" + (f", changing to {changing}" if changing is not None else "")
    columns = ["worker", "state", "running", "endpoint", "host", "since"]
    cells = [[*(row[name] for name in columns[:-1]), f"{row['since']:%Y-%m-%d %H:%M}"] for row in rows]
    print_table(title, columns, cells, cut=("endpoint", "host"))
    return 0


def add_workers(arguments: argparse.Namespace) -> int:
    """Put workers on the list. Raises CommandFailed, LakeError."""
    asked = [_uuid(text) for text in arguments.worker]
    with open_members(arguments) as (_, members):
        active = members.standing().active
        listed = {member.worker for member in active.members}
        known = {one.worker: one for one in members.known()}
        if not asked:
            running = members.running(known)
            asked = sorted(one for one in running - listed if known[one].retired_at is None)
        for worker in asked:
            if worker not in known:
                raise CommandFailed(f"no worker {worker} has run on this catalog yet: start it first. {_told(known)}")
            if known[worker].retired_at is not None:
                raise CommandFailed(f"worker {worker} was retired, and never comes back.")
        new = [Member(worker=one, endpoint=known[one].endpoint) for one in asked if one not in listed]

        def added(listed: list[Member]) -> list[Member]:
            there = {member.worker for member in listed}
            return [*listed, *(member for member in new if member.worker not in there)]

        return Change(members, arguments.json).to(added, f"add {' '.join(str(member.worker) for member in new)}")


def remove_worker(arguments: argparse.Namespace) -> int:
    """Take a worker off the list. Raises CommandFailed, LakeError."""
    worker = _uuid(arguments.worker)
    with open_members(arguments) as (_, members):
        _refuse_unknown(worker, members)
        return Change(members, arguments.json).to(lambda listed: _without(worker, listed), f"remove {worker}")


def retire_worker(arguments: argparse.Namespace) -> int:
    """Bring a dead worker's journal to the lake, and take it off the list. Raises CommandFailed, LakeError."""
    worker = _uuid(arguments.worker)
    with open_members(arguments) as (settings, members):
        _refuse_unknown(worker, members)
        _without(worker, members.standing().active.members)  # else nobody would be left
        why = f"retire {worker}"
        change = Change(members, arguments.json)
        change.refuse_another(why)
        hand_over(settings, worker, arguments.journal)
        return change.to(lambda listed: _without(worker, listed), why, gone=worker)


def cancel_change(arguments: argparse.Namespace) -> int:
    """Take the change back that is under way. Raises CommandFailed, LakeError."""
    with open_members(arguments) as (_, members):
        return Change(members, arguments.json).cancel()


def _refuse_unknown(worker: UUID, members: Members) -> None:
    known = [one.worker for one in members.known()]
    if worker not in known:
        raise CommandFailed(f"no worker {worker} has ever run on this catalog. {_told(known)}")


def _told(known: Iterable[UUID]) -> str:
    return f"Known are: {', '.join(map(str, known)) or 'none'}."


def _without(worker: UUID, listed: list[Member]) -> list[Member]:
    left = [member for member in listed if member.worker != worker]
    if not left:
        raise CommandFailed(f"worker {worker} is the only one on the list: add another one first.")
    return left


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise CommandFailed(f"{text!r} is no worker's id; `runlake workers ls` lists them.", USAGE) from None
