"""CURVE: who is at the other end of a ZeroMQ connection, and nobody in between (RFC 25 and 26 of ZeroMQ).

A worker has a pair of keys, and a list of the clients' public keys that it lets in (`runlake keys`). Who connects (an
agent, a query process, a command) has a pair of its own and knows the worker's public key: it talks to no other. A
connection is encrypted from its first message on, and each has session keys of its own: keys that are stolen later do
not open what was recorded before.

Keys are 32 bytes, written in Z85 as 40 characters. Files are certificates as zmq.auth and czmq write them, so that
keys made elsewhere work here; they are read by a few lines of our own, since `zmq.auth` is more than an agent should
have to load.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping

import zmq

from runlake.addresses import beyond_loopback
from runlake.errors import SettingsError

SERVER_KEY_VARIABLE = "RUNLAKE_SERVER_KEY"
CLIENT_KEY_VARIABLE = "RUNLAKE_CLIENT_KEY"
KEYS_VARIABLE = "RUNLAKE_KEYS"
ZAP_DOMAIN = b"runlake"
SERVER_NAME = "server"
LOCAL_NAME = "local"
"""The client that runs on the worker's own machine, and may read its keys."""
SECRET_SUFFIX = ".key_secret"
PUBLIC_SUFFIX = ".key"
_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_DIGITS = {character: digit for digit, character in enumerate(_Z85)}
_KEY_CHARS = 40
_MAX_FILE_BYTES = 64 * 1024


class KeyPair:
    """A public key and its secret, in Z85. The secret is shown nowhere."""

    __slots__ = ("public", "secret")

    def __init__(self, public: str, secret: str) -> None:
        self.public = public
        self.secret = secret

    def __repr__(self) -> str:
        return f"KeyPair({self.public!r}, '…')"


class ClientKeys:
    """What one end needs to connect: the worker's public key, and a pair of its own."""

    __slots__ = ("own", "server")

    def __init__(self, server: str, own: KeyPair) -> None:
        self.server = server
        self.own = own

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Before `connect`: from then on the socket talks to no other server."""
        socket.setsockopt_string(zmq.CURVE_SERVERKEY, self.server)
        socket.setsockopt_string(zmq.CURVE_PUBLICKEY, self.own.public)
        socket.setsockopt_string(zmq.CURVE_SECRETKEY, self.own.secret)

    def __repr__(self) -> str:
        return f"ClientKeys({self.server!r}, {self.own!r})"


class ServerKeys:
    """What one end needs to be connected to."""

    __slots__ = ("own",)

    def __init__(self, own: KeyPair) -> None:
        self.own = own

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Before `bind`: from then on nobody gets in whom the context's ZAP handler (RFC 27) does not let in, and
        nobody at all where there is none."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt_string(zmq.CURVE_SECRETKEY, self.own.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def __repr__(self) -> str:
        return f"ServerKeys({self.own!r})"


def client_keys(
    server_key: str | None = None,
    client_key: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ClientKeys | None:
    """The keys to connect with; None when none are set.

    `server_key`: the worker's public key, or a file that has it; by default the variable `RUNLAKE_SERVER_KEY`.
    `client_key`: the file with the own pair, by default `RUNLAKE_CLIENT_KEY`. Reads the files each time, so that keys
    which are made or mended later are found without a restart. Raises SettingsError, which says what to do.
    """
    server = server_key or environ.get(SERVER_KEY_VARIABLE, "")
    client = os.fspath(client_key) if client_key else environ.get(CLIENT_KEY_VARIABLE, "")
    if not server and not client:
        return None
    if not client:
        raise SettingsError(
            f"{SERVER_KEY_VARIABLE} is set, and {CLIENT_KEY_VARIABLE} is not: who connects to a worker with keys needs"
            " a pair of its own. `runlake keys create client` makes one, and says what to do with it."
        )
    if not server:
        raise SettingsError(
            f"{CLIENT_KEY_VARIABLE} is set, and {SERVER_KEY_VARIABLE} is not: set it to the worker's public key, which"
            " `runlake keys ls` prints on its machine."
        )
    return ClientKeys(public_key(server, SERVER_KEY_VARIABLE), read_pair(client, CLIENT_KEY_VARIABLE))


def refuse_open(endpoints: str, keys: ClientKeys | None) -> None:
    """Raises SettingsError when one of these endpoints (separated by commas) is beyond loopback, and there are no keys:
    whoever answers there could be anybody, and whoever is in between could read along."""
    others = [] if keys is not None else beyond_loopback(endpoints)
    if others:
        raise SettingsError(
            f"{', '.join(others)}: another machine, and there are no keys to know it by. On the worker's machine:"
            " `runlake keys create server`; here: `runlake keys create client`; there: `runlake keys allow` with the"
            f" public key that it printed. Then set {SERVER_KEY_VARIABLE} and {CLIENT_KEY_VARIABLE} here."
        )


def refusal(event: int, value: int, endpoint: str, keys: ClientKeys | None) -> str:
    """What an event of a connecting socket's monitor says of keys, and what to do about it; empty when nothing."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH and keys is not None:
        return (
            f"{endpoint} does not let in the key {keys.own.public} (of {CLIENT_KEY_VARIABLE})."
            f" On its machine: runlake keys allow '{keys.own.public}'"
        )
    mismatch = event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
    if keys is None and (mismatch or event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL):
        known = "" if mismatch else " ended the connection during the handshake. Where that goes on, it"
        return (
            f"{endpoint}{known} asks for keys, and none are set here. `runlake keys create client` makes a pair; then"
            f" set {SERVER_KEY_VARIABLE} and {CLIENT_KEY_VARIABLE}."
        )
    if mismatch:
        return (
            f"{endpoint} has no keys, and here some are set: it is not the worker that was meant, or needs"
            " `runlake keys create server` and a restart."
        )
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return (
            f"{endpoint} ended the connection during the handshake. Most likely {SERVER_KEY_VARIABLE} is not its public"
            " key: `runlake keys ls` prints it on its machine."
        )
    return ""


def public_key(text: str, said: str) -> str:
    """A public key that is given as itself or as the name of a file. Raises SettingsError, naming `said`."""
    path = os.path.expanduser(text)  # noqa: PTH111 (pathlib need not be loaded for it)
    if is_key(text) and not os.path.exists(path):  # noqa: PTH110
        return text
    public, _ = certificate(path, said)
    if public is None:
        raise SettingsError(f"{said}: {path!r} has no public key: it is no certificate of CURVE")
    return public


def read_pair(path: str | os.PathLike[str], said: str) -> KeyPair:
    """The pair in a file that is for its owner, or its group, alone. Raises SettingsError, naming `said`; never tells
    what is in the file."""
    name = os.path.expanduser(os.fspath(path))  # noqa: PTH111
    refuse_bare_secret(os.fspath(path), said)
    public, secret = certificate(name, said, guarded=True)
    if secret is None:
        raise SettingsError(f"{said}: {name!r} has no secret key. The file with the secret ends in {SECRET_SUFFIX}.")
    if not zmq.has("curve"):
        raise SettingsError(f"{said}: the libzmq that pyzmq has here was built without CURVE; pyzmq's wheels have it")
    try:
        own = zmq.curve_public(secret.encode()).decode()
    except (zmq.ZMQError, ValueError):
        raise SettingsError(f"{said}: the secret key in {name!r} is none") from None
    if public is not None and public != own:
        raise SettingsError(f"{said}: the public and the secret key in {name!r} do not belong together")
    return KeyPair(own, secret)


def refuse_bare_secret(text: str, said: str) -> None:
    """Raises SettingsError, and does not repeat it, when what should name a file is a key."""
    if is_key(text) and not os.path.exists(text):  # noqa: PTH110
        raise SettingsError(f"{said}: there is no such file. If it is a key: secrets are given as files, and only so.")


def is_key(text: str) -> bool:
    """Whether a text is 32 bytes in Z85 (RFC 32 of ZeroMQ)."""
    if len(text) != _KEY_CHARS or not all(character in _DIGITS for character in text):
        return False
    for start in range(0, _KEY_CHARS, 5):
        value = 0
        for character in text[start : start + 5]:
            value = value * 85 + _DIGITS[character]
        if value > 0xFFFF_FFFF:
            return False
    return True


def certificate(path: str, said: str, guarded: bool = False) -> tuple[str | None, str | None]:
    """The public and the secret key in a file, each None where it has none. `guarded`: refuse a file that others may
    read or change. Raises SettingsError, naming `said`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOENT:
            raise SettingsError(f"{said}: there is no file {path!r}. `runlake keys create` makes keys.") from None
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise SettingsError(f"{said}: {path!r} cannot be read: {reason}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SettingsError(f"{said}: {path!r} is no file")
        mode = stat.S_IMODE(status.st_mode)
        if guarded and mode & 0o027:
            raise SettingsError(
                f"{said}: {path!r} holds a secret, and others may read or change it (mode {mode:04o}): chmod 600 it."
                " If others did read it, make new keys."
            )
        content = os.read(descriptor, _MAX_FILE_BYTES).decode()
    except OSError as error:
        raise SettingsError(f"{said}: {path!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{said}: {path!r} is no certificate of CURVE") from None
    finally:
        os.close(descriptor)
    return _keys_of(content, path, said)


def _keys_of(content: str, path: str, said: str) -> tuple[str | None, str | None]:
    """ZPL (RFC 4 of ZeroMQ): `name = value` below the section `curve`; a file with one bare public key will do, too."""
    if is_key(bare := content.strip()):
        return bare, None
    found: dict[str, str] = {}
    section = ""
    for line in content.splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals:
            section = text
        elif section == "curve" and name.strip() in ("public-key", "secret-key"):
            key = value.strip().strip("\"'")
            if not is_key(key):
                raise SettingsError(f"{said}: the {name.strip()} in {path!r} is none: 40 characters of Z85")
            found[name.strip()] = key
    if not found:
        raise SettingsError(f"{said}: {path!r} is no certificate of CURVE")
    return found.get("public-key"), found.get("secret-key")
