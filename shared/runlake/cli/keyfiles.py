"""Writing and removing files of keys: whole or not at all, durably, and never over one that is there."""

from __future__ import annotations

import os
from pathlib import Path

import zmq

from runlake.cli.failure import CommandFailed
from runlake.curve import PUBLIC_SUFFIX, SECRET_SUFFIX, KeyPair
from runlake.lake.durability import sync_folder

_SECRET_HEAD = """\
# A key of CURVE (ZeroMQ) with its secret, made by `runlake keys`.
# Who has this file is its owner to everyone: keep it to yourself.

"""
_PUBLIC_HEAD = """\
# A public key of CURVE (ZeroMQ), made by `runlake keys`. It is no secret.

"""


def new_pair() -> KeyPair:
    """A pair whose public key begins with a letter or digit: no command takes it for a flag."""
    while True:
        public, secret = (key.decode() for key in zmq.curve_keypair())
        if public[0].isalnum():
            return KeyPair(public, secret)


def make_key_folder(path: Path, mode: int) -> None:
    """Make a folder, and what is missing above it, durably. Raises CommandFailed."""
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=mode if folder == path else 0o777)
            if os.geteuid() == 0:
                os.chown(folder, *_owner(folder.parent), follow_symlinks=False)
            sync_folder(folder.parent)
    except OSError as error:
        raise CommandFailed(f"{error.filename or path}: {error.strerror}") from None


def write_pair(folder: Path, name: str, pair: KeyPair) -> tuple[Path, Path]:
    """The files with the secret and with the public key alone. Raises CommandFailed when one is there."""
    secret, public = folder / f"{name}{SECRET_SUFFIX}", folder / f"{name}{PUBLIC_SUFFIX}"
    taken = [str(path) for path in (secret, public) if path.exists()]
    if taken:
        raise CommandFailed(f"{taken[0]} is there already, and keys are never overwritten: take another name")
    keys = f'curve\n    public-key = "{pair.public}"\n'
    _write(secret, f'{_SECRET_HEAD}{keys}    secret-key = "{pair.secret}"\n', 0o600)
    _write(public, f"{_PUBLIC_HEAD}{keys}", 0o644)
    return secret, public


def write_public(path: Path, public: str) -> None:
    """A file with a public key. Raises CommandFailed when it is there."""
    _write(path, f'{_PUBLIC_HEAD}curve\n    public-key = "{public}"\n', 0o644)


def remove(path: Path) -> None:
    """Raises CommandFailed."""
    try:
        path.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be removed: {error.strerror}") from None


def _write(path: Path, text: str, mode: int) -> None:
    partial = path.with_name(f".{path.name}.new")
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            os.fchmod(descriptor, mode)
            out.write(text)
            out.flush()
            os.fsync(descriptor)
            if os.geteuid() == 0:
                os.fchown(descriptor, *_owner(path.parent))
        os.link(partial, path)  # which fails where something is, as a rename does not
        partial.unlink()
        sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CommandFailed(f"{path} cannot be written: {error.strerror}") from None


def _owner(folder: Path) -> tuple[int, int]:
    """Whose a folder is. What root makes in it is theirs: the worker has to read it."""
    status = folder.stat()
    return status.st_uid, status.st_gid
