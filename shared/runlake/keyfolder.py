"""The folder of a worker's keys: its own pair, and the public keys of the clients that it lets in.

    server.key_secret     the worker's pair (0600)          server.key    its public key alone
    local.key_secret      the pair of who may read this folder: commands and a query process of the same user
    allowed/NAME.key      the public key of one client; the file's name is its name

All are certificates of CURVE as zmq.auth writes them. The workers of a cluster have one pair, in a folder each.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from msgspec import Struct

from runlake.curve import (
    KEYS_VARIABLE,
    LOCAL_NAME,
    PUBLIC_SUFFIX,
    SECRET_SUFFIX,
    SERVER_NAME,
    ClientKeys,
    ServerKeys,
    public_key,
    read_pair,
)
from runlake.errors import SettingsError


class Allowed(Struct, frozen=True):
    """Who is let in: public keys, and the names of those who have them. `problems`: files that are no keys."""

    names: dict[str, str] = {}
    problems: tuple[str, ...] = ()


class AllowedFile(Struct, frozen=True):
    """One file of a public key; `problem` says why it is none."""

    path: Path
    name: str
    key: str = ""
    problem: str = ""


class KeyFolder:
    """Looks into the folder at each question: keys may be made, allowed and revoked at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server_secret = path / f"{SERVER_NAME}{SECRET_SUFFIX}"
        self.server_public = path / f"{SERVER_NAME}{PUBLIC_SUFFIX}"
        self.local_secret = path / f"{LOCAL_NAME}{SECRET_SUFFIX}"
        self.allowed_folder = path / "allowed"

    def server_keys(self) -> ServerKeys | None:
        """The worker's pair; None when there is none. Raises SettingsError for one that cannot be used, or seen."""
        try:
            self.server_secret.stat()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise SettingsError(f"{KEYS_VARIABLE}: {str(self.server_secret)!r}: {error.strerror}") from None
        return ServerKeys(read_pair(self.server_secret, KEYS_VARIABLE))

    def server_key(self) -> str | None:
        """The worker's public key; None when there is no pair. Raises SettingsError."""
        if not self.server_public.exists():
            return None
        return public_key(str(self.server_public), KEYS_VARIABLE)

    def local_keys(self) -> ClientKeys | None:
        """What connects to this folder's worker; None for who may not read it. Raises SettingsError."""
        if not (os.access(self.server_public, os.R_OK) and os.access(self.local_secret, os.R_OK)):
            return None
        server = public_key(str(self.server_public), KEYS_VARIABLE)
        return ClientKeys(server, read_pair(self.local_secret, KEYS_VARIABLE))

    def allowed(self) -> Allowed:
        """Who is let in now. A file that is no key lets nobody in, and keeps nobody else out."""
        files = self.allowed_files()
        names = {file.key: file.name for file in files if file.key}
        return Allowed(names, tuple(file.problem for file in files if file.problem))

    def allowed_files(self) -> list[AllowedFile]:
        """The files that let somebody in, by name."""
        try:
            paths = sorted(path for path in self.allowed_folder.iterdir() if self.allows(path))
        except FileNotFoundError:
            return []
        except OSError as error:
            problem = f"{KEYS_VARIABLE}: {str(self.allowed_folder)!r}: {error.strerror}"
            return [AllowedFile(self.allowed_folder, "", problem=problem)]
        return [self.allowed_file(path) for path in paths]

    @staticmethod
    def allows(path: Path) -> bool:
        """Whether a file is one that lets somebody in, by its name."""
        return path.name.endswith(PUBLIC_SUFFIX) and not path.name.startswith(".")

    @staticmethod
    def allowed_file(path: Path) -> AllowedFile:
        """Read one of them."""
        name = path.name.removesuffix(PUBLIC_SUFFIX)
        try:
            return AllowedFile(path, name, key=public_key(str(path), KEYS_VARIABLE))
        except SettingsError as error:
            return AllowedFile(path, name, problem=str(error))
