"""`runlake replay`: the log of a lake, into a file or to another worker."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from runlake import settings as settings_module
from runlake.cli.failure import USAGE, CommandFailed
from runlake.cli.lakehere import need_lake
from runlake.cli.logsender import refuse_refused, send_log
from runlake.cli.positions import Positions, positions_text, read_positions
from runlake.cli.progress import progress_bar
from runlake.cli.replayjournal import send_journal
from runlake.cli.subcommands import Subcommands
from runlake.cli.worker_client import ask_position, flush_if_there
from runlake.curve import ClientKeys
from runlake.settings import Settings

if TYPE_CHECKING:
    import duckdb

    from runlake.lake.replay import Logged, Stretch

_ASK_MS = 10_000
_encoder = msgspec.json.Encoder()


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "replay",
        help="send the log of the lake to another worker, or write it to a file",
        description="Read every accepted message from the lake, in the order of the log and with its own event_id, and"
        " send it to a worker (tcp://… or ipc://…), which accepts each once, or write it to a file, one JSON object in"
        " a line. A lake that is made so from an empty one has the same runs and events, with the times at which they"
        " were first received. What was interrupted goes on where it was. With --journal, send what the journal of a"
        " worker holds that was retired without it.",
    )
    parser.add_argument(
        "--from", dest="after", metavar="POSITION", default="", help="begin after this position (default: at the start)"
    )
    parser.add_argument("--until", metavar="POSITION", help="end with this position (default: all that there is)")
    parser.add_argument("--to", metavar="FILE|ENDPOINT", required=True)
    parser.add_argument(
        "--journal", metavar="FOLDER", type=Path,
        help="instead of the log of the lake, what this data folder, or its journal, holds that the lake does not",
    )  # fmt: skip
    settings_module.add_flags(parser, "data", "catalog", "storage", "ingest")
    parser.set_defaults(run=replay)


def replay(arguments: argparse.Namespace) -> int:
    """Replay, and say what became of it. Raises CommandFailed, LakeError."""
    settings = settings_module.from_arguments(arguments)
    need_lake(settings)
    if arguments.journal is not None and ("://" not in arguments.to or arguments.after or arguments.until is not None):
        raise CommandFailed(
            "--journal is sent whole, and to a worker: --to is its endpoint (tcp://… or ipc://…).", USAGE
        )
    after, until = read_positions(arguments.after), None if arguments.until is None else read_positions(arguments.until)
    if "://" in arguments.to:
        ask_position(arguments.to, _ASK_MS, settings.client_keys)
    flush_if_there(settings.ingest, settings.client_keys)
    import duckdb  # noqa: PLC0415 (an extra)

    try:
        with _lake(settings) as (connection, lake):
            if arguments.journal is not None:
                send_journal(connection, lake, arguments.journal, settings, arguments.to)
            elif "://" in arguments.to:
                _send(connection, arguments.to, settings.client_keys, after, until)
            else:
                question = hashlib.sha256(f"{lake} {arguments.after} {arguments.until}".encode()).hexdigest()[:8]
                _write(connection, Path(arguments.to), question, after, until)
    except duckdb.Error as error:
        raise CommandFailed(f"the lake at {settings.lake.told} cannot be read: {error}") from None
    except OSError as error:
        raise CommandFailed(f"{arguments.to} cannot be written: {error.strerror or error}") from None
    return 0


@contextmanager
def _lake(settings: Settings) -> Iterator[tuple[duckdb.DuckDBPyConnection, UUID]]:
    """A connection to the lake as it stands, and the lake's id."""
    from runlake.lake.attach import CATALOG, read_lake  # noqa: PLC0415
    from runlake.lake.schema import check_version, lake_id  # noqa: PLC0415

    with read_lake(settings.lake) as connection:
        check_version(connection, CATALOG)
        yield connection, lake_id(connection, CATALOG)


def _log(
    connection: duckdb.DuckDBPyConnection, after: Positions, until: Positions | None
) -> tuple[list[Stretch], int, Iterator[Logged]]:
    from runlake.lake.attach import CATALOG  # noqa: PLC0415
    from runlake.lake.replay import count_messages, read_log, stretches  # noqa: PLC0415

    found = stretches(connection, CATALOG, after, until)
    return found, count_messages(connection, CATALOG, found), read_log(connection, CATALOG, found)


def _send(
    connection: duckdb.DuckDBPyConnection,
    endpoint: str,
    keys: ClientKeys | None,
    after: Positions,
    until: Positions | None,
) -> None:
    """To a worker, or to those of a cluster."""
    _, total, log = _log(connection, after, until)
    reached = dict(after)

    def on_reached(last: Logged) -> None:
        reached[last.worker] = last.seq

    try:
        answered = send_log(log, total, endpoint, keys, on_reached)
    except CommandFailed as failure:
        go_on = f" `--from {positions_text(reached)}` goes on from there." if reached else ""
        raise CommandFailed(f"{failure.message.rstrip('.')}.{go_on}", failure.code) from None
    print(f"{answered} Replayed up to {positions_text(reached) or 'the start'}.")
    refuse_refused(answered, endpoint)


def _write(
    connection: duckdb.DuckDBPyConnection, path: Path, question: str, after: Positions, until: Positions | None
) -> None:
    """To a file, complete or not there. What an interrupted one has stays, and is gone on with."""
    partial = path.with_name(f"{path.name}.{question}.partial")
    reached = _last_whole_line(partial)
    found, _, _ = _log(connection, after, until)
    if reached is not None:
        workers = [stretch.worker for stretch in found]
        done = dict.fromkeys(workers[: workers.index(reached[0])], 2**62) if reached[0] in workers else {}
        after = {**after, **done, reached[0]: reached[1]}
    _, total, log = _log(connection, after, until)
    with progress_bar("Writing messages", total) as advance, partial.open("ab") as file:
        for logged in log:
            where = {"worker": logged.worker, "seq": logged.seq, "received_at": logged.received_at}
            head = _encoder.encode({**where, "producer": logged.producer})
            file.write(head[:-1] + b"," + _encoder.encode(logged.message)[1:] + b"\n")
            advance(1)
    partial.replace(path)
    print(f"{total:,} messages are in {path}{' anew, after what was there' if reached else ''}.")


def _last_whole_line(path: Path) -> tuple[str, int] | None:
    """The position of the last line that was written to its end; what follows it is cut off."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    whole = content[: content.rfind(b"\n") + 1]
    with path.open("r+b") as file:
        file.truncate(len(whole))
    if not whole:
        return None
    line = msgspec.json.decode(whole[whole.rfind(b"\n", 0, -1) + 1 :])
    return str(line["worker"]), int(line["seq"])
