"""`runlake quarantine`: messages that were refused. Lists and shows them, sends them again, and removes old ones."""

from __future__ import annotations

import argparse
import base64
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from runlake import settings as settings_module
from runlake.cli.api import Api, in_path
from runlake.cli.failure import USAGE, CommandFailed
from runlake.cli.lakewriting import write_lake
from runlake.cli.moments import moment
from runlake.cli.output import clock, for_people, print_json_text, print_table, printable
from runlake.cli.subcommands import Subcommands

if TYPE_CHECKING:
    import duckdb

_PATH = "/api/v1/quarantine"
_COLUMNS = ("messages", "producer", "field", "reason")
_BYTES_IN_LINE = 16


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "quarantine",
        help="messages that were refused: list and show them, send them again, remove old ones",
        description="Messages that were refused, the latest first, with the reason. JSON when the output is not a"
        " terminal.",
    )
    _listing(parser)
    actions = parser.add_subparsers(metavar="ls|show|resubmit|expire")
    _listing(actions.add_parser("ls", help="list them (the default)"), again=True)
    show = actions.add_parser("show", help="one of them, with the bytes that came")
    resubmit = actions.add_parser(
        "resubmit",
        help="send one again, mended or as it came",
        description="Send a refused message again: as it came, for the case that the worker now knows more; or mended,"
        " from a file of JSON that has the fields of the wire (`runlake quarantine show` prints them). It stays in"
        " the quarantine until it expires. A token for writing is needed where writing needs one.",
    )
    resubmit.add_argument("--message", metavar="FILE", help="the mended message, JSON; - reads standard input")
    for action, run in ((show, show_refused), (resubmit, resubmit_refused)):
        action.add_argument("id", metavar="ID", help="as `runlake quarantine` shows it, or its first characters")
        action.add_argument("--json", action="store_true", help="print the API's answer as it is")
        _again(action, "http")
        action.set_defaults(run=run)
    expire = actions.add_parser(
        "expire",
        help="remove those that are older than a time",
        description="Remove refused messages that came before a time, while RunLake runs. The books keep their number.",
    )
    expire.add_argument("--older-than", metavar="WHEN", required=True, help="90d (ago), a date, or a time of RFC 3339")
    expire.add_argument("--dry-run", action="store_true", help="only say how many there are")
    for name in ("data", "catalog", "storage"):
        expire.add_argument(f"--{name}", metavar="VALUE", help=f"see RUNLAKE_{name.upper()}")
    expire.set_defaults(run=expire_refused)


def _listing(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    default: Any = argparse.SUPPRESS if again else 100
    parser.add_argument("--limit", type=int, default=default, metavar="N", help="how many, 1 to 1000 (default: 100)")
    parser.add_argument(
        "--json", action="store_true", help="print the API's answer as it is",
        default=argparse.SUPPRESS if again else False,
    )  # fmt: skip
    if again:
        _again(parser, "http")
    else:
        settings_module.add_flags(parser, "http")
    parser.set_defaults(run=list_refused)


def _again(parser: argparse.ArgumentParser, name: str) -> None:
    """A flag that may stand before the action too; SUPPRESS: what was given there holds."""
    parser.add_argument(f"--{name}", metavar="VALUE", default=argparse.SUPPRESS, help=f"see RUNLAKE_{name.upper()}")


def list_refused(arguments: argparse.Namespace) -> int:
    """Print one line for each."""
    api = _api(arguments)
    text = api.text(_PATH, [("limit", arguments.limit)])
    if not for_people(arguments.json):
        print_json_text(text)
        return 0
    answer = api.decoded(text)
    rows = [
        [clock(one["received_at"]), one["id"][:12], *(one[name] for name in _COLUMNS)] for one in answer["quarantine"]
    ]
    title = f"{answer['messages']:,} messages refused, times in UTC"
    print_table(title, ["at", "id", *_COLUMNS], rows, cut=("producer",), fold="reason")
    return 0


def show_refused(arguments: argparse.Namespace) -> int:
    """Print one, with its bytes and what they say where they are MessagePack or JSON."""
    api = _api(arguments)
    text = api.text(f"{_PATH}/{in_path(_whole_id(api, arguments.id))}")
    if not for_people(arguments.json):
        print_json_text(text)
        return 0
    one = api.decoded(text)
    for name in ("id", "received_at", "worker", "producer", "batch", "number", "messages", "field", "reason"):
        if one[name] is not None:
            print(f"{name:<12} {printable(str(one[name]))}")
    raw = base64.b64decode(one["raw"])
    said = _said(raw)
    print(f"\n{len(raw):,} bytes{':' if said is None else ', which say:'}")
    print(_dump(raw) if said is None else printable_lines(said))
    return 0


def resubmit_refused(arguments: argparse.Namespace) -> int:
    """Send one again, and print what became of it."""
    api = _api(arguments)
    message = _read(arguments.message) if arguments.message else None
    answer = api.post(f"{_PATH}/{in_path(_whole_id(api, arguments.id))}/resubmit", {"message": message})
    if not for_people(arguments.json):
        print_json_text(msgspec.json.encode(answer))
    elif answer["accepted"]:
        print(f"{answer['accepted']:,} accepted, {answer['duplicate']:,} duplicates; position {answer['position']}.")
    else:
        print("It had been accepted before: nothing changed.")
    return 0


def expire_refused(arguments: argparse.Namespace) -> int:
    """Remove old ones, or say how many there are. Raises CommandFailed, LakeError."""
    settings = settings_module.from_arguments(arguments)
    before = moment(arguments.older_than, datetime.now(UTC))

    def write(connection: duckdb.DuckDBPyConnection) -> int:
        from runlake.lake.attach import CATALOG  # noqa: PLC0415 (an extra)
        from runlake.lake.quarantine import expire_rows, old_rows  # noqa: PLC0415

        return (old_rows if arguments.dry_run else expire_rows)(connection, CATALOG, before)

    count = write_lake(settings, write)
    what = "would be removed" if arguments.dry_run else "were removed"
    print(f"{count:,} refused messages from before {before:%Y-%m-%d %H:%M:%S} UTC {what}.")
    return 0


def _api(arguments: argparse.Namespace) -> Api:
    settings = settings_module.from_arguments(arguments)
    return Api(settings.http, settings.token)


def _whole_id(api: Api, start: str) -> str:
    """The id that begins so, among the latest 1,000 where it is not whole. Raises CommandFailed."""
    if len(start) == 32:
        return start
    found = {one["id"] for one in api.get(_PATH, [("limit", 1000)])["quarantine"] if one["id"].startswith(start)}
    if len(found) != 1:
        many = "several refused messages begin" if found else "no refused message of the latest 1,000 begins"
        raise CommandFailed(f"{many} with {start!r}; `runlake quarantine --json` has whole ids.")
    return str(found.pop())


def _read(name: str) -> Any:
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return msgspec.json.decode(content)
    except OSError as error:
        raise CommandFailed(f"{name} cannot be read: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{name} is no JSON: {error}", USAGE) from None


def _said(raw: bytes) -> str | None:
    """Bytes as JSON, where they are MessagePack or JSON; None where they are neither."""
    for decode in (msgspec.json.decode, msgspec.msgpack.decode):
        try:
            value = decode(raw)
            if isinstance(value, dict | list):
                return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError):
            continue
    return None


def printable_lines(text: str) -> str:
    """Text of several lines, each without control characters."""
    return "\n".join(printable(line) for line in text.splitlines())


def _dump(raw: bytes) -> str:
    """Bytes in hexadecimal and as text, as `hexdump -C` prints them."""
    lines = []
    for at in range(0, len(raw), _BYTES_IN_LINE):
        part = raw[at : at + _BYTES_IN_LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:08x}  {part.hex(' '):<{3 * _BYTES_IN_LINE}} |{text}|")
    return "\n".join(lines)
