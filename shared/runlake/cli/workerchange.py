"""One change of the list of workers, from a command: announced, awaited, or taken back."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from runlake import settings as settings_module
from runlake.cli.failure import CommandFailed
from runlake.cli.lakehere import need_duckdb
from runlake.cli.output import for_people, print_json
from runlake.settings import Settings
from runlake.wire import Member

if TYPE_CHECKING:
    from runlake.lake.members import Members, Standing

_LOOK_EVERY_S = 0.1
_SAY_EVERY_S = 5.0
_BACK_S = 30.0
"""A worker that is putting the list in force just now is waited for so long."""


@contextmanager
def open_members(arguments: argparse.Namespace) -> Iterator[tuple[Settings, Members]]:
    """The settings, and the workers of their catalog. Raises CommandFailed for a catalog that has one worker."""
    settings = settings_module.from_arguments(arguments)
    if not settings.lake.is_clustered:
        raise CommandFailed(
            f"the catalog {settings.lake.told} is on this machine, and has one worker: there is no list."
        )
    need_duckdb()
    from runlake.lake.duck import need_psycopg  # noqa: PLC0415 (an extra)

    need_psycopg()
    from runlake.lake.members import Members  # noqa: PLC0415

    members = Members(settings.lake)
    try:
        yield settings, members
    finally:
        members.close()


class Change:
    """Methods return the exit status; they raise CommandFailed and LakeError."""

    def __init__(self, members: Members, as_json: bool) -> None:
        self._members = members
        self._as_json = as_json
        self._say_at = 0.0

    def to(self, members: Sequence[Member], why: str, gone: UUID | None = None) -> int:
        """Have these be the list; go on with a change that was begun for the same reason. `gone`: cannot report, and
        need not. Without a reason it is the list already."""
        standing = self._members.standing()
        if not why and standing.next is None:
            return self._done(standing)
        self.refuse_another(why)
        try:
            if standing.next is None:
                self._wait_for_all(members, gone)
                version = self._members.announce(members, why, () if gone is None else (gone,))
            else:
                version = standing.next.version
                if gone is not None:
                    self._members.report(version, gone)
            return self._wait(version)
        except KeyboardInterrupt:
            return self.cancel()

    def refuse_another(self, why: str) -> None:
        """Raise CommandFailed when a change is under way that has another reason."""
        following = self._members.standing().next
        if following is not None and self._members.why(following.version) != why:
            raise CommandFailed(
                f"another change is under way: {self._members.why(following.version)}. Give that command again to go on"
                " with it, or `runlake workers cancel` to take it back."
            )

    def cancel(self) -> int:
        """Take the change back that is under way."""
        from runlake.lake.members import lock_key  # noqa: PLC0415 (an extra)

        following = self._members.standing().next
        if following is None:
            raise CommandFailed("stopped: nothing has changed.")
        end = time.monotonic() + _BACK_S
        while not self._members.try_lock(lock_key("change")):
            if time.monotonic() > end:
                raise CommandFailed("a worker is putting the list in force, and does not come to an end.")
            time.sleep(_LOOK_EVERY_S)
        taken_back = self._members.withdraw(following.version)
        self._members.unlock(lock_key("change"))
        if not taken_back:
            return self._done(self._members.standing())
        raise CommandFailed(f"taken back: the list is still that of version {self._members.standing().active.version}.")

    def _wait_for_all(self, members: Sequence[Member], gone: UUID | None) -> None:
        """Before anybody stops taking, have all there who have to report."""
        listed = self._members.standing().active.members
        needed = {member.worker for member in (*listed, *members)} - {gone}
        while missing := needed - self._members.running(needed):
            self._say(f"waiting for {_named(missing)}, which does not run")
            time.sleep(_LOOK_EVERY_S)

    def _wait(self, version: int) -> int:
        while True:
            standing = self._members.standing()
            if standing.active.version >= version:
                return self._done(standing)
            if standing.next is None or standing.next.version != version:
                raise CommandFailed("the change was taken back.")
            missing = set(standing.missing)
            down = missing - self._members.running(missing)
            if down:
                self._say(f"waiting for {_named(down)}, which does not run; Ctrl-C takes the change back")
            elif missing:
                self._say(f"waiting for {_named(missing)} to bring all to the lake")
            else:
                self._say("all have reported; the list is being put in force")
            time.sleep(_LOOK_EVERY_S)

    def _say(self, what: str) -> None:
        """A line of progress now and then; not for a change that takes no time."""
        now = time.monotonic()
        if not self._say_at:
            self._say_at = now + _SAY_EVERY_S / 5
        elif now >= self._say_at:
            self._say_at = now + _SAY_EVERY_S
            print(what, file=sys.stderr, flush=True)

    def _done(self, standing: Standing) -> int:
        workers = [str(member.worker) for member in standing.active.members]
        if for_people(self._as_json):
            print(f"List {standing.active.version} is in force: {', '.join(workers)}.")
        else:
            print_json({"version": standing.active.version, "workers": workers})
        return 0


def _named(workers: set[UUID]) -> str:
    return "worker " + " and ".join(str(worker) for worker in sorted(workers))
