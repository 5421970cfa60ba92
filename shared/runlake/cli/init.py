"""`runlake init`: writes a settings file, and for systemd the units of both processes; and takes them away again.

It starts nothing and makes no user: what to run next it says. Settings and token hold what people decide or know, so
they are never replaced and never removed; units and users can be made again, and are replaced with `--force`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from runlake import settings as settings_module
from runlake.cli.failure import CommandFailed
from runlake.cli.installation import MARK, SETTINGS, UNITS, File, enabled, for_folder, for_system
from runlake.cli.subcommands import Subcommands
from runlake.errors import SettingsError

_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_NAMES = " ".join(name.removesuffix(".service") for name in UNITS)


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "init",
        help="write a settings file, and units for systemd",
        description="Write a settings file in which every setting is explained; with --system also the units and users"
        " with which systemd runs both processes. Nothing that is there is overwritten, nothing is started.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--dir", type=Path, default=Path(), metavar="FOLDER", help="where to (default: here)")
    where.add_argument("--system", action="store_true", help="for systemd: /etc/runlake, units, users")
    parser.add_argument("--root", type=Path, metavar="PREFIX", help="with --system: below this folder instead of /")
    parser.add_argument("--python", type=Path, metavar="PATH", help="with --system: the interpreter that has RunLake")
    parser.add_argument(
        "--http", metavar="HOST:PORT", help="where the HTTP side shall listen; beyond loopback: a token"
    )
    parser.add_argument("--force", action="store_true", help="replace units that differ; never settings or token")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--uninstall", action="store_true", help="with --system: remove units and users' file again")
    parser.set_defaults(run=init)


def init(arguments: argparse.Namespace) -> int:
    """Write or remove the files. Raises CommandFailed, and has changed nothing then; SettingsError."""
    if not arguments.system and (arguments.root or arguments.python or arguments.uninstall):
        raise CommandFailed("--root, --python and --uninstall go with --system", code=2)
    root = Path("/") if arguments.root is None else arguments.root.absolute()
    http = _checked(arguments.http)
    try:
        if arguments.uninstall:
            return _uninstall(root, dry_run=arguments.dry_run)
        if arguments.system:
            wanted = _below(root, for_system(_interpreter(arguments.python), http))
        else:
            wanted = for_folder(arguments.dir.absolute(), http)
        _write(wanted, force=arguments.force, dry_run=arguments.dry_run)
    except OSError as error:
        raise CommandFailed(f"{error.filename}: {error.strerror}; nothing more was done") from None
    if not arguments.dry_run:
        print(_next_steps(wanted, arguments))
    return 0


def _checked(http: str | None) -> str | None:
    if http is None:
        return None
    try:
        # Any token does: whether the address is one is the question here.
        settings_module.load({"http": http, "token": "x" * settings_module.MIN_TOKEN_CHARS}, {}, Path(os.devnull))
    except SettingsError as error:
        raise CommandFailed(str(error), code=2) from None
    return http


def _interpreter(given: Path | None) -> Path:
    """The interpreter for the units: this one, where services can reach it."""
    if given is not None:
        return given.absolute()
    for path in (Path(sys.executable), Path(sys.executable).resolve()):
        home = next((home for home in _HOMES if path.is_relative_to(home)), None)
        if home is not None:
            raise CommandFailed(
                f"this RunLake runs with {path}, which is in {home}, and services do not see what is there. Install it"
                " for all: `python3 -m venv /opt/runlake && /opt/runlake/bin/pip install 'runlake[server]'`, then"
                " `/opt/runlake/bin/runlake init --system`; or name another interpreter with --python."
            )
    return Path(sys.executable)


def _below(root: Path, wanted: Sequence[File]) -> list[File]:
    return [File(root / file.path.relative_to("/"), file.text, file.kept, file.mode) for file in wanted]


def _write(wanted: Sequence[File], *, force: bool, dry_run: bool) -> None:
    todo = []
    said = []
    differing = []
    for file in wanted:
        there = _content(file.path)
        if there is None:
            todo.append(file)
            said.append(f"{'would write' if dry_run else 'wrote'} {file.path}")
        elif there == file.text:
            said.append(f"unchanged: {file.path}")
        elif file.kept:
            said.append(f"kept as it is: {file.path}")
        elif force:
            todo.append(file)
            said.append(f"{'would replace' if dry_run else 'replaced'} {file.path}")
        else:
            differing.append(str(file.path))
    if differing:
        raise CommandFailed(
            f"{', '.join(differing)}: there already, and different; --force replaces. Nothing was done."
        )
    if not dry_run:
        for file in todo:
            _put(file)
    print("\n".join(said))


def _content(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""


def _put(file: File) -> None:
    """Whole or not at all, with its mode from the beginning, and without following a link that somebody left there."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    partial = file.path.with_name(f".{file.path.name}.new")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        os.fchmod(descriptor, file.mode)
        out.write(file.text)
        out.flush()
        os.fsync(descriptor)
    partial.replace(file.path)


def _uninstall(root: Path, *, dry_run: bool) -> int:
    running = enabled(root)
    if running:
        raise CommandFailed(f"first: systemctl disable --now {' '.join(running)}. Nothing was done.")
    left = []
    for file in _below(root, for_system(Path(sys.executable), None)):
        there = _content(file.path)
        if there is None:
            continue
        if file.kept or not there.startswith(MARK):
            left.append(str(file.path))
            continue
        if not dry_run:
            file.path.unlink()
        print(f"{'would remove' if dry_run else 'removed'} {file.path}")
    print(f"Left as they are: the data (/var/lib/runlake), the settings and the users {_NAMES}.")
    if left:
        print(f"  {', '.join(left)}")
    print("Next: systemctl daemon-reload")
    return 0


def _next_steps(wanted: Sequence[File], arguments: argparse.Namespace) -> str:
    token = next((str(file.path) for file in wanted if file.secret), None)
    lines = ["", "Next:"]
    if arguments.system:
        lines += [
            "  systemd-sysusers",
            "  systemctl daemon-reload",
            f"  systemctl enable --now {_NAMES}",
            f"  runlake doctor --settings {SETTINGS}",
        ]
    else:
        lines += [f"  cd {arguments.dir.absolute()}", "  runlake up"]
    if token:
        lines += [
            "",
            f"Who asks the HTTP side needs the token in {token}: keep it to yourself. What it sends is not",
            "encrypted: put a reverse proxy with TLS before it (deploy/nginx.conf).",
        ]
    return "\n".join(lines)
