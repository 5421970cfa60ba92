"""One change of the list of workers, from a command: announced, awaited, or taken back."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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

    def to(self, made_from: Callable[[list[Member]], list[Member]], why: str, gone: UUID | None = None) -> int:
        """Have the list be what is `made_from` the one in force, of the moment when the change begins; or go on with a
        change that was begun for the same reason. `gone`: cannot report, and need not. `made_from` may raise
        CommandFailed."""
        from runlake.lake.members import ListChanged  # noqa: PLC0415 (an extra)

        self.refuse_another(why)
        try:
            while True:
                standing = self._members.standing()
                following, active = standing.next, standing.active
                if following is not None and self._members.why(following.version) == why:
                    if gone is not None:
                        self._members.report(following.version, gone)
                    return self._wait(following.version)
                members = made_from(active.members)
                if members == active.members and following is None:
                    return self._done(standing)
                missing = self._missing(active.members, members, gone)
                if following is not None:
                    self._say(f"waiting for the end of another change: {self._members.why(following.version)}")
                elif missing:
                    self._say(f"waiting for {_named(missing)}, which does not run{_what_to_do(missing)}")
                else:
                    with suppress(ListChanged):
                        reported = () if gone is None else (gone,)
                        return self._wait(self._members.announce(members, why, active.version, reported))
                time.sleep(_LOOK_EVERY_S)
        except KeyboardInterrupt:
            version = self._take_back()
            if version is None:
                raise CommandFailed("stopped: nothing has changed.") from None
            if version:
                raise CommandFailed(f"taken back: the list is still that of version {version}.") from None
            return self._done(self._members.standing())

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
        version = self._take_back()
        if version is None:
            raise CommandFailed("no change of the list is under way: there is nothing to take back.")
        if not version:
            raise CommandFailed("the change has ended already: `runlake workers ls` shows the list that is in force.")
        return self._done(self._members.standing())

    def _take_back(self) -> int | None:
        """Take the change back that is under way: the version that stays in force; 0 when the change had ended before,
        None when there was none."""
        from runlake.lake.members import lock_key  # noqa: PLC0415 (an extra)

        following = self._members.standing().next
        if following is None:
            return None
        end = time.monotonic() + _BACK_S
        while not self._members.try_lock(lock_key("change")):
            if time.monotonic() > end:
                raise CommandFailed("a worker is putting the list in force, and does not come to an end.")
            time.sleep(_LOOK_EVERY_S)
        taken_back = self._members.withdraw(following.version)
        self._members.unlock(lock_key("change"))
        return self._members.standing().active.version if taken_back else 0

    def _missing(self, before: list[Member], after: list[Member], gone: UUID | None) -> set[UUID]:
        """Who would have to report, and does not run: before anybody stops taking, have all there."""
        needed = {member.worker for member in (*before, *after)} - {gone}
        return needed - self._members.running(needed)

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
                self._say(f"waiting for {_named(down)}, which does not run{_what_to_do(down)}")
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


def _what_to_do(down: set[UUID]) -> str:
    gone = " or ".join(f"`runlake workers retire {worker}`" for worker in sorted(down))
    return f": start it; or Ctrl-C takes the change back, and {gone} is for one that is gone for good"


def _named(workers: set[UUID]) -> str:
    return "worker " + " and ".join(str(worker) for worker in sorted(workers))
