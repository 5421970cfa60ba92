"""`runlake keys create|allow|ls|revoke`: who may connect to a worker, and how to be one of them."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from msgspec import UNSET, Struct, UnsetType

from runlake import settings as settings_module
from runlake.cli.failure import USAGE, CommandFailed
from runlake.cli.keyfiles import make_key_folder, new_pair, remove, write_pair, write_public
from runlake.cli.output import for_people, print_json, print_table
from runlake.cli.subcommands import Subcommands
from runlake.curve import (
    CLIENT_KEY_VARIABLE,
    LOCAL_NAME,
    PUBLIC_SUFFIX,
    SERVER_KEY_VARIABLE,
    SERVER_NAME,
    certificate,
    is_key,
)
from runlake.keyfolder import KeyFolder
from runlake.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Key(Struct, frozen=True):
    """A public key, whose it is, and where its files are."""

    name: str
    public_key: str
    allowed_at: datetime | UnsetType = UNSET
    secret_file: str | UnsetType = UNSET
    public_file: str | UnsetType = UNSET


class Listing(Struct, frozen=True):
    """What `ls` tells."""

    folder: str
    server_key: str | None
    clients: list[Key]
    problems: list[str]


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "keys",
        help="who may connect to the worker: create, allow, ls, revoke",
        description="Keys of CURVE. A worker that has a pair talks to nobody but the clients whose public keys it was"
        " told to allow, and everything is encrypted. JSON when the output is not a terminal.",
    )
    settings_module.add_flags(parser, "data", "keys")
    parser.set_defaults(run=list_keys, json=False)
    actions = parser.add_subparsers(metavar="create|allow|ls|revoke")
    create = actions.add_parser("create", help="make the pair of a worker (server), or of who connects to one (client)")
    create.add_argument("kind", choices=("server", "client"))
    create.add_argument("name", nargs="?", metavar="NAME", help="of a client (default: this machine's name)")
    create.add_argument("--dir", type=Path, metavar="FOLDER", help="where a client's pair goes (default: here)")
    create.set_defaults(run=create_keys)
    allow = actions.add_parser("allow", help="let in the client with this public key")
    allow.add_argument("key", metavar="FILE|KEY", help="the file with the public key, or the key itself")
    allow.add_argument("name", nargs="?", metavar="NAME", help="what to call it (default: the file's name)")
    allow.set_defaults(run=allow_key)
    ls = actions.add_parser("ls", help="the worker's public key, and whom it lets in (the default)")
    ls.set_defaults(run=list_keys)
    revoke = actions.add_parser("revoke", help="no longer let in a client")
    revoke.add_argument("key", metavar="NAME|KEY")
    revoke.set_defaults(run=revoke_key)
    for action in (create, allow, ls, revoke):
        action.add_argument("--json", action="store_true", help="print JSON")
        for name in ("data", "keys"):  # SUPPRESS: what was given before the action holds
            action.add_argument(f"--{name}", metavar="VALUE", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def create_keys(arguments: argparse.Namespace) -> int:
    """Make a pair, and say what to do with it. Raises CommandFailed when it is there."""
    if arguments.kind == "server":
        if arguments.name is not None or arguments.dir is not None:
            raise CommandFailed("the worker's pair has no name, and is in the folder of keys (--keys)", USAGE)
        return _create_server(arguments, KeyFolder(_settings(arguments).keys))
    name = _checked(arguments.name or re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename).lstrip("._-") or "client")
    folder = (arguments.dir or Path()).absolute()
    make_key_folder(folder, 0o700)
    pair = new_pair()
    secret, public = write_pair(folder, name, pair)
    if not for_people(arguments.json):
        print_json(Key(name, pair.public, secret_file=str(secret), public_file=str(public)))
        return 0
    print(
        f"{name}: {pair.public}\n"
        f"  {secret}  the pair, with its secret: for who connects, and nobody else\n"
        f"  {public}  the public key alone\n\n"
        "Next:\n"
        "  1. On the worker's machine, let it in:\n"
        f"       runlake keys allow '{pair.public}' {name}\n"
        "  2. For agents, query processes and commands here, set\n"
        f"       {CLIENT_KEY_VARIABLE}={secret}\n"
        f"       {SERVER_KEY_VARIABLE}='…'  the worker's public key: `runlake keys ls` prints it there"
    )
    return 0


def _create_server(arguments: argparse.Namespace, folder: KeyFolder) -> int:
    make_key_folder(folder.path, 0o700)
    make_key_folder(folder.allowed_folder, 0o700)
    pair, local = new_pair(), new_pair()
    if not folder.server_secret.exists() and not folder.local_secret.exists():
        write_public(folder.allowed_folder / f"{LOCAL_NAME}{PUBLIC_SUFFIX}", local.public)
        write_pair(folder.path, LOCAL_NAME, local)
    secret, public = write_pair(folder.path, SERVER_NAME, pair)
    if not for_people(arguments.json):
        print_json(Key(SERVER_NAME, pair.public, secret_file=str(secret), public_file=str(public)))
        return 0
    print(
        f"server: {pair.public}\n"
        f"  {secret}  the pair, with its secret: for the worker, and the other workers of a cluster\n"
        f"  {public}  the public key alone: who connects needs it\n\n"
        "Next:\n"
        "  1. Start the worker again: all its sockets ask for keys then, on loopback too.\n"
        f"     Commands and query processes that may read {folder.path} have a pair there.\n"
        "  2. For each other machine or user that connects, there:\n"
        "       runlake keys create client\n"
        "     and here, as it says: runlake keys allow '…'\n"
        f"  3. There, set {SERVER_KEY_VARIABLE}='{pair.public}'"
    )
    return 0


def allow_key(arguments: argparse.Namespace) -> int:
    """Let in a client. Raises CommandFailed for what is no public key, and for a name that is another's."""
    folder = KeyFolder(_settings(arguments).keys)
    server = folder.server_key()
    key = _public(arguments.key)
    if server == key:
        raise CommandFailed("that is the worker's own public key: it lets in clients by theirs")
    name = folder.allowed().names.get(key)
    if name is not None and arguments.name not in (None, name):
        raise CommandFailed(f"this key is let in already, as {name}")
    if name is None:
        name = _checked(arguments.name or _default_name(arguments.key))
        path = folder.allowed_folder / f"{name}{PUBLIC_SUFFIX}"
        if path.exists():
            raise CommandFailed(f"{name} is the name of another key already: `runlake keys ls` lists them")
        make_key_folder(folder.path, 0o700)
        make_key_folder(folder.allowed_folder, 0o700)
        write_public(path, key)
    if not for_people(arguments.json):
        print_json(Key(name, key))
        return 0
    print(f"{name}: let in by the worker that has its keys in {folder.path}, from the next second on")
    if server is None:
        print("It has no pair of its own yet, and so asks nobody for keys: runlake keys create server")
    return 0


def revoke_key(arguments: argparse.Namespace) -> int:
    """No longer let in a client, under whatever names. Raises CommandFailed when nobody is called so."""
    folder = KeyFolder(_settings(arguments).keys)
    files = folder.allowed_files()
    meant = {file.key or file.name for file in files if arguments.key in (file.name, file.key)}
    gone = [file for file in files if (file.key or file.name) in meant]
    if not gone:
        raise CommandFailed(f"nobody is let in as {arguments.key}: `runlake keys ls` lists who is")
    for file in gone:
        remove(file.path)
    if not for_people(arguments.json):
        print_json([Key(file.name, file.key) for file in gone])
        return 0
    names = ", ".join(file.name for file in gone)
    print(f"{names}: no longer let in. A worker that runs ends its connections within seconds.")
    return 0


def list_keys(arguments: argparse.Namespace) -> int:
    """Print the worker's public key, and one line for each client."""
    folder = KeyFolder(_settings(arguments).keys)
    files, server = folder.allowed_files(), folder.server_key()
    clients = [Key(file.name, file.key, allowed_at=_changed_at(file.path)) for file in files if file.key]
    problems = [file.problem for file in files if file.problem]
    if not for_people(arguments.json):
        print_json(Listing(str(folder.path), server, clients, problems))
        return 0
    if server is None:
        print(f"No worker's pair in {folder.path}: its sockets are open, on loopback. runlake keys create server")
    else:
        print(f"server: {server}")
    rows = [(client.name, client.public_key, f"{client.allowed_at:%Y-%m-%d %H:%M:%S}") for client in clients]
    print_table(f"{len(rows):,} let in, times in UTC", ["name", "public key", "since"], rows)
    for told in problems:
        print(told)
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    """Without looking whether what they say may be listened on: this is the command that sees to it."""
    flags = {name: getattr(arguments, name, None) for name in ("data", "keys")}
    return settings_module.load(flags, file=arguments.settings, listens=False)


def _public(given: str) -> str:
    """The public key in a file, or given as such. What has a secret in it is not to be handed around."""
    if is_key(given) and not Path(given).exists():
        return given
    public, secret = certificate(given, "the key")
    if secret is not None or public is None:
        other = Path(given).with_suffix(PUBLIC_SUFFIX)
        raise CommandFailed(
            f"{given} holds a secret, which is for who connects alone: allow the file with the public key ({other})"
        )
    return public


def _default_name(given: str) -> str:
    if is_key(given):
        return f"key-{hashlib.sha256(given.encode()).hexdigest()[:8]}"
    return Path(given).name.removesuffix(PUBLIC_SUFFIX)


def _checked(name: str) -> str:
    if _NAME.fullmatch(name) is None or name == SERVER_NAME:
        raise CommandFailed(
            f"{name!r} cannot be a client's name; allowed are letters, digits, '.', '_' and '-', up to 64, not"
            f" {SERVER_NAME!r}",
            USAGE,
        )
    return name


def _changed_at(path: Path) -> datetime:
    return datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
