"""`runlake replay --journal`: what the journal of a worker holds that the others went on without.

Its messages have lost their numbers, and come as new ones: each is accepted once, by the worker that is its home now.
They would count as said last. So what was said of a run since then stays as it is: an update comes without the fields
that later ones have set, and a commit that another one has followed does not come.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from runlake.cli.failure import CommandFailed
from runlake.cli.logsender import refuse_refused, send_log
from runlake.messages import CommitAssociated, Message, RunUpdated
from runlake.settings import Settings

if TYPE_CHECKING:
    import duckdb

    from runlake.lake.replay import Logged

_OWN = frozenset(("event_id", "run_event_id", "ts"))
"""What an update says beside run fields."""


class _Group(Struct):
    """Whose the messages are that follow."""

    lake: UUID
    worker: UUID
    first_seq: int
    last_seq: int


def send_journal(
    connection: duckdb.DuckDBPyConnection, lake: UUID, folder: Path, settings: Settings, endpoint: str
) -> None:
    """Send what is in a journal to the workers of the lake at `connection`. Raises CommandFailed, duckdb.Error."""
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "journal.ndjson"
        _read(folder, path)
        journal = _Journal(path, connection, lake, folder)
        try:
            answered = send_log(journal.messages(), journal.count, endpoint, settings.client_keys)
        except CommandFailed as failure:
            raise CommandFailed(f"{failure.message.rstrip('.')}. The same command goes on.", failure.code) from None
    print(f"{answered} {journal.left_out:,} left out: more was said of the same since.")
    for commit in journal.commits_left_out:
        print(f"left out: commit {commit.commit_hash} of run {commit.run_event_id}, which has a later one")
    refuse_refused(answered, endpoint)


def _read(folder: Path, path: Path) -> None:
    """By the ingest side, in a process of its own: the command imports nothing of it."""
    if importlib.util.find_spec("runlake_ingest") is None:
        raise CommandFailed("the ingest side is not installed here; install it with `pip install 'runlake[server]'`.")
    command = [sys.executable, "-P", "-m", "runlake_ingest.readjournal", str(folder.absolute())]
    with path.open("wb") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, env=os.environ, text=True, check=False)
    if done.returncode:
        raise CommandFailed(done.stderr.strip() or f"the journal in {folder} cannot be read.")
    sys.stderr.write(done.stderr)


class _Journal:
    """What was read of a journal. Raises CommandFailed when it is not one that comes back to this lake."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, lake: UUID, folder: Path) -> None:
        from runlake.lake.attach import CATALOG  # noqa: PLC0415 (an extra)
        from runlake.lake.saidsince import given_up, said_since  # noqa: PLC0415

        self._path = path
        self.left_out = 0
        self.commits_left_out: list[CommitAssociated] = []
        groups = list(self._groups())
        self.count = sum(group.last_seq - group.first_seq + 1 for group in groups)
        found = None
        if groups:
            first = groups[0]
            if first.lake != lake:
                raise CommandFailed(
                    f"the journal in {folder} is of the lake {first.lake}, and this is the lake {lake}."
                )
            spans = ((group.first_seq, group.last_seq) for group in groups)
            found = given_up(connection, CATALOG, first.worker, spans)
        if found is None:
            raise CommandFailed(f"the journal in {folder} holds no messages that the lake does not have.")
        _, went_on_at = found
        if went_on_at is None:
            raise CommandFailed(
                f"what the journal in {folder} holds still has its place in the lake, and comes there whole: start the"
                f" worker, or `runlake workers retire {groups[0].worker} --journal {folder}`."
            )
        self._said = said_since(connection, CATALOG, path, went_on_at)

    def messages(self) -> Iterator[Logged]:
        """What is to be sent, in the order of the journal."""
        from runlake.lake.replay import read_line  # noqa: PLC0415 (an extra)

        with self._path.open("rb") as file:
            for line in file:
                if _is_group(line):
                    continue
                logged = read_line(line)
                message = self._unsaid(logged.message)
                if message is None:
                    self.left_out += 1
                else:
                    yield logged._replace(message=message)

    def _unsaid(self, message: Message) -> Message | None:
        """A message without what was said of its run since; None when nothing is left of it."""
        if not isinstance(message, RunUpdated | CommitAssociated):
            return message
        said = self._said.get(message.run_event_id, set())
        if isinstance(message, CommitAssociated):
            if "commit_hash" not in said:
                return message
            self.commits_left_out.append(message)
            return None
        if "commit_hash" in said:
            said = {*said, "commit_source", "commit_author", "commit_timestamp"}
        names = {name for name in message.__struct_fields__ if getattr(message, name) is not None} - _OWN
        if not names & said:
            return message
        return replace(message, **dict.fromkeys(names & said)) if names - said else None

    def _groups(self) -> Iterator[_Group]:
        with self._path.open("rb") as file:
            for line in file:
                if _is_group(line):
                    yield msgspec.json.decode(line, type=_Group)


def _is_group(line: bytes) -> bool:
    return line.startswith(b'{"lake":')
