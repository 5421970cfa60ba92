"""Settings, for the worker, the query process, the command and the SDK alike.

Each comes from a flag, else the environment (`RUNLAKE_<NAME>`), else `runlake.toml`, else its default; the first that
says something wins. A wrong value is a SettingsError that names where it was set, the value, and what is allowed.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from runlake.addresses import beyond_loopback, is_loopback
from runlake.errors import SettingsError
from runlake.lake import place
from runlake.lake.place import CatalogAddress, LakePlace

if TYPE_CHECKING:
    from runlake.curve import ClientKeys, ServerKeys

PREFIX = "RUNLAKE_"
FILE_NAME = "runlake.toml"
_LOG_LEVELS = ("debug", "info", "warning", "error")


class Secret(str):
    """A text that is not shown where settings are printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'" if self else "''"


SECRETS = frozenset(("token", "read_token"))
"""Settings that are no flags, and whose values no error repeats."""
MIN_TOKEN_CHARS = 16


class Settings(Struct, frozen=True, kw_only=True):
    """All settings, checked and with their defaults filled in. Made by `load`, once, at start."""

    data: Path = Path("runlake-data")
    """The data folder. Made when it is missing."""
    http: str = "127.0.0.1:8765"
    """host:port of the query process's HTTP API and dashboard."""
    ingest: str = "tcp://127.0.0.1:8766"
    """Where producers reach the worker's acknowledged socket (ROUTER); of several workers, separated by commas."""
    push: str = "tcp://127.0.0.1:8767"
    """Where bare pushers reach the worker (PULL)."""
    feed: str = "tcp://127.0.0.1:8768"
    """Where query processes reach the worker's feed (PUB); of several workers, separated by commas."""
    metrics: str = "127.0.0.1:8769"
    """host:port of the worker's own metrics page; beyond loopback it asks for the token."""
    token: Secret = Secret()
    """The bearer token that the HTTP API asks for; none by default. Not a flag: a process listing would show it."""
    token_file: Path = Path()
    """A file that holds the token, in the place of `token`."""
    read_token: Secret = Secret()
    """A second token, which is good for reads only; none by default."""
    token_scope: str = "both"
    """What needs a token when there is one: reads, writes or both."""
    cors_origins: str = ""
    """Whose pages may call the HTTP API from a browser: `local`, or origins separated by commas; by default none."""
    hosts: str = ""
    """Names under which the HTTP side is served, separated by commas, beside localhost and the machine's own; addresses
    are always allowed, and with a token on everything so is any name."""
    ingest_bind: str = ""
    """What the ROUTER binds; by default the address of `ingest`."""
    push_bind: str = ""
    """What the PULL socket binds; by default the address of `push`."""
    feed_bind: str = ""
    """What the PUB socket binds; by default the address of `feed`."""
    keys: Path = Path()
    """The folder of the worker's keys (`runlake keys`): its own pair, and whom it lets in; by default `<data>/keys`.
    With a pair in it, all sockets of the worker ask for keys, on loopback too."""
    server_key: str = ""
    """The worker's public key, or a file that has it: for who connects to a worker with keys."""
    client_key: Path = Path()
    """The file with the pair of who connects to a worker with keys, for its owner or group alone to read."""
    catalog: str = ""
    """The DuckLake catalog, `sqlite:<path>` or `postgresql://user@host:port/database`; by default
    `sqlite:<data>/catalog.sqlite`. A password is better in PGPASSWORD or ~/.pgpass."""
    storage: str = ""
    """Where the lake's Parquet files are: a folder, or `s3://bucket/prefix/` with the AWS_* variables; by default
    `<data>/lake/`."""
    read_model: Path = Path()
    """The query process's own folder; by default `<data>/query/`."""
    spool: str = ""
    """The folder in which agents of this user keep what is not delivered yet, or `off`: memory alone."""
    spool_max_mb: Annotated[int, Meta(ge=1, le=10_000_000)] = 512
    """How large that folder may grow, MiB."""
    spool_full: str = "refuse"
    """What an agent does then: `refuse` what is new, or `drop-oldest`; both are counted."""
    flush_interval_ms: Annotated[int, Meta(ge=10, le=600_000)] = 2_000
    """How long accepted messages stay in the journal before they go to the lake, milliseconds."""
    flush_messages: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000
    """How many messages in the journal cause a flush before the interval is over."""
    journal_max_mb: Annotated[int, Meta(ge=1, le=10_000_000)] = 4_096
    """How large the journal may grow while the lake cannot be written, MiB; then the worker stops reading."""
    window_ids: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 2_000_000
    """How many event ids dedupe holds in memory (about 130 bytes each); older ones are looked up in the lake."""
    maintenance_interval_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 30_000
    """How often the worker looks after the lake (merges small files, removes replaced ones), milliseconds; 0: never."""
    maintenance_keep_s: Annotated[int, Meta(ge=1, le=31_536_000)] = 3_600
    """How long what was replaced stays readable, seconds: the longest that a read of the lake may take."""
    maintenance_merge_mb: Annotated[int, Meta(ge=1, le=1_024)] = 32
    """How large merged files become, MiB; a merge takes about ten times as much memory."""
    retention_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    """After how many days without a change or an event a run is removed from the lake; 0: never."""
    quarantine_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    """After how many days refused messages are removed; 0: never."""
    credit: Annotated[int, Meta(ge=1, le=1_000)] = 16
    """How many batches one producer may have in flight."""
    refresh_ms: Annotated[int, Meta(ge=10, le=60_000)] = 50
    """How often the query process looks for news in the lake, milliseconds."""
    recent_days: Annotated[int, Meta(ge=1, le=36_500)] = 30
    """How many days of run events the read model keeps; older ones are read from the lake."""
    sql: str = "off"
    """Whether `POST /api/v1/sql` answers: on or off."""
    sql_timeout_ms: Annotated[int, Meta(ge=100, le=600_000)] = 10_000
    """How long one statement of users' SQL may take, milliseconds."""
    sql_memory_mb: Annotated[int, Meta(ge=64, le=1_000_000)] = 512
    """How much memory one statement of users' SQL may use, MiB; twice as much on disk beyond it."""
    log_level: str = "info"
    """debug, info, warning or error."""

    @property
    def ingest_folder(self) -> Path:
        """The worker's own folder: its lock, its id and its journal."""
        return self.data / "ingest"

    @property
    def lake(self) -> LakePlace:
        """Where the lake is."""
        return LakePlace(CatalogAddress(self.catalog), self.storage)

    @property
    def metrics_tokens(self) -> tuple[str, ...]:
        """What the worker's metrics page asks for, beyond loopback; on loopback nothing."""
        return () if is_loopback(self.metrics) else tuple(filter(None, (self.token, self.read_token)))

    @property
    def server_keys(self) -> ServerKeys | None:
        """What the worker's sockets ask for; None: nothing, on loopback. Raises SettingsError."""
        from runlake.keyfolder import KeyFolder  # noqa: PLC0415 (it loads pyzmq, which few commands need)

        keys = KeyFolder(self.keys).server_keys()
        others = beyond_loopback(",".join((self.ingest_bind, self.push_bind, self.feed_bind)))
        if keys is None and (others or self.keys != self.data / "keys"):
            why = f"{', '.join(others)} can be reached from other machines" if others else "it is set"
            raise SettingsError(
                f"{variable('keys')}: {why}, and there is no pair of keys in {str(self.keys)!r}."
                " `runlake keys create server` makes one."
            )
        return keys

    @property
    def client_keys(self) -> ClientKeys | None:
        """What to connect to the worker with; None: nothing, on loopback. Raises SettingsError."""
        from runlake import curve  # noqa: PLC0415
        from runlake.keyfolder import KeyFolder  # noqa: PLC0415

        own = str(self.client_key) if self.client_key != Path() else ""
        keys = curve.client_keys(self.server_key, own, {}) or KeyFolder(self.keys).local_keys()
        curve.refuse_open(f"{self.ingest},{self.feed}", keys)
        return keys

    @property
    def client_variables(self) -> dict[str, str]:
        """What says the same to a process that has only the SDK. Raises SettingsError."""
        from runlake.keyfolder import KeyFolder  # noqa: PLC0415

        folder = KeyFolder(self.keys)
        if self.server_key or self.client_key != Path():
            server, client = self.server_key, str(self.client_key)
        elif folder.local_keys() is not None:
            server, client = str(folder.server_public), str(folder.local_secret)
        else:
            return {}
        return {variable("server_key"): server, variable("client_key"): client}


_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def load(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] = os.environ,
    file: Path | None = None,
    *,
    listens: bool = True,
) -> Settings:
    """Read the settings from every source. `flags` maps setting names to values; None means not given.

    `file` defaults to `runlake.toml` in the working folder, which may be missing; one that is named must exist.
    `listens`: refuse addresses that must not be listened on as things are. Raises SettingsError.
    """
    values: dict[str, tuple[Any, str]] = {}
    for name, value in _read_file(file).items():
        values[name] = (value, f"{name} in {file or FILE_NAME}")
    for name in _FIELDS:
        if variable(name) in environ:
            values[name] = (environ[variable(name)], variable(name))
    for name, value in (flags or {}).items():
        if value is not None:
            values[name] = (value, f"--{name.replace('_', '-')}")
    checked = {name: _convert(name, value, source) for name, (value, source) in values.items()}
    sources = {name: source for name, (_, source) in values.items()}
    complete, all_sources = _complete(Settings(**checked), sources)
    if listens:
        _refuse_open_sockets(complete, all_sources)
    return complete


def add_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Give a command one flag for each named setting (all when none is named), and `--settings FILE`."""
    parser.add_argument("--settings", type=Path, metavar="FILE", help=f"settings file (default: {FILE_NAME}, if there)")
    for name in names or _FIELDS:
        if name in SECRETS:
            continue
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="VALUE", help=f"see {variable(name)}")


def from_arguments(arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Settings:
    """Load the settings with the flags of a parser that `add_flags` prepared. Raises SettingsError."""
    flags = {name: getattr(arguments, name, None) for name in _FIELDS}
    return load(flags, environ, arguments.settings)


def is_given(name: str, arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a setting is said by a flag, a variable or the file; or only by its default. Raises SettingsError."""
    by_flag = getattr(arguments, name, None) is not None
    return by_flag or variable(name) in environ or name in _read_file(arguments.settings)


def _read_file(file: Path | None) -> dict[str, Any]:
    path = file or Path(FILE_NAME)
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if file is None:
            return {}
        raise SettingsError(f"{path}: there is no such settings file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as TOML: {error}") from None
    for name in content:
        if name not in _FIELDS:
            raise SettingsError(f"{path}: there is no setting {name!r}; known are {', '.join(_FIELDS)}")
    return content


def _convert(name: str, value: Any, source: str) -> Any:
    field = _FIELDS[name]
    plain = str(value) if isinstance(value, Path) else value
    if plain == "":
        raise SettingsError(f"{source}: '' cannot be used; it must not be empty: leave it out for the default")
    if name == "client_key":
        from runlake.curve import refuse_bare_secret  # noqa: PLC0415 (it loads pyzmq)

        refuse_bare_secret(str(plain), source)
    try:
        converted = msgspec.convert(plain, field.type, strict=False, dec_hook=_dec_hook)
    except msgspec.ValidationError:
        allowed = _allowed(field.type)
        raise SettingsError(f"{source}: {_told(name, value)} cannot be used; allowed is {allowed}") from None
    check = _CHECKS.get(name)
    if check:
        allowed = check(converted)
        if allowed:
            raise SettingsError(f"{source}: {_told(name, value)} cannot be used; allowed is {allowed}")
    return converted


def _told(name: str, value: Any) -> str:
    if name == "catalog":
        return repr(place.without_password(str(value)))
    if name == "storage":
        return repr(place.without_secrets(str(value)))
    return "what was given" if name in SECRETS else repr(value)


def _allowed(kind: Any) -> str:
    if kind is Secret:
        return "text"
    match msgspec.inspect.type_info(kind):
        case msgspec.inspect.IntType(ge=least, le=most):
            return f"a whole number from {least} to {most}"
        case msgspec.inspect.StrType():
            return "text"
        case _:
            return "a path"


def _dec_hook(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return _absolute(value)
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError(f"{value!r} is not a {kind.__name__}")


def _absolute(path: str | Path) -> Path:
    """`~` and `~user` become home folders; a `~` that is nobody's is left as it stands, as a shell does."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        return Path(path).absolute()


def _complete(settings: Settings, sources: Mapping[str, str]) -> tuple[Settings, Mapping[str, str]]:
    """With the defaults that follow from others, and where each came from."""
    data = _absolute(settings.data)
    filled: dict[str, Any] = {"data": data}
    for name in ("ingest", "push", "feed"):
        bind = f"{name}_bind"
        if not getattr(settings, bind):
            filled[bind] = getattr(settings, name)
            sources = {**sources, bind: sources.get(name, name)}
    catalog = settings.catalog or f"{place.SQLITE}{data / 'catalog.sqlite'}"
    if catalog.startswith(place.SQLITE):
        catalog = f"{place.SQLITE}{_absolute(catalog.removeprefix(place.SQLITE))}"
    filled["catalog"] = CatalogAddress(catalog)
    storage = settings.storage or str(data / "lake")
    filled["storage"] = f"{storage.rstrip('/') if storage.startswith(place.S3) else _absolute(storage)}/"
    filled["read_model"] = settings.read_model if settings.read_model != Path() else data / "query"
    filled["keys"] = settings.keys if settings.keys != Path() else data / "keys"
    filled["token"] = _token(settings, sources)
    complete = msgspec.structs.replace(settings, **filled)
    _refuse_odd_tokens(complete, sources)
    return complete, sources


def _token(settings: Settings, sources: Mapping[str, str]) -> Secret:
    """The token, from its file when it is in one."""
    file = settings.token_file
    if file == Path():
        return settings.token
    said = sources.get("token_file", "token_file")
    if settings.token:
        raise SettingsError(f"{said}: cannot be used beside {sources.get('token', 'token')}; give the token once")
    try:
        text = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"{said}: {str(file)!r} cannot be read: {reason}") from None
    wrong = _check_token(text)
    if wrong:
        raise SettingsError(f"{said}: what {str(file)!r} holds cannot be used; allowed is {wrong}")
    return Secret(text)


def _refuse_odd_tokens(settings: Settings, sources: Mapping[str, str]) -> None:
    said = sources.get("read_token", "read_token")
    if settings.read_token and not settings.token:
        raise SettingsError(f"{said}: needs {variable('token')} too, or nobody could write")
    if settings.read_token and settings.read_token == settings.token:
        raise SettingsError(f"{said}: must be another one than {variable('token')}")


def _refuse_open_sockets(settings: Settings, sources: Mapping[str, str]) -> None:
    """Nothing listens beyond loopback without authentication. The HTTP API has tokens, sockets of ZeroMQ have keys;
    whether they are of any use, those who open the sockets see (`server_keys`, `client_keys`)."""
    if not is_loopback(settings.http) and not (settings.token and settings.token_scope == "both"):
        missing = "has no token" if not settings.token else f"asks for a token for {settings.token_scope} only"
        raise SettingsError(
            f"{sources.get('http', 'http')}: {settings.http!r} is reachable from other machines, and the HTTP API"
            f" {missing}. Set {variable('token')} (or {variable('token_file')}, a file that holds it) to at least"
            f" {MIN_TOKEN_CHARS} characters that nobody can guess, for instance from `openssl rand -hex 32`, and leave"
            f" {variable('token_scope')} at both; or use an address on loopback (127.0.0.1, ::1, localhost), with"
            " an SSH tunnel or a reverse proxy that authenticates."
        )
    if not is_loopback(settings.metrics) and not settings.token:
        raise SettingsError(
            f"{sources.get('metrics', 'metrics')}: {settings.metrics!r} is reachable from other machines, and there"
            f" is no token that the page could ask for. Set {variable('token')} (or {variable('token_file')});"
            " or use an address on loopback (127.0.0.1, ::1, localhost), with an SSH tunnel or a reverse proxy that"
            " authenticates."
        )
    if _has_keys(settings):
        return
    for name in ("ingest_bind", "push_bind", "feed_bind"):
        address = getattr(settings, name)
        if beyond_loopback(address):
            raise SettingsError(
                f"{sources.get(name, name)}: {address!r} is beyond this machine, and there are no keys to tell who is"
                f" who. A worker: `runlake keys create server` makes its pair, in {str(settings.keys)!r}, and `runlake"
                " keys allow` lets clients in. Who connects to it: `runlake keys create client` makes a pair; then set"
                f" {variable('server_key')} and {variable('client_key')}. Or use an address on loopback (127.0.0.1,"
                " ::1, localhost, ipc://), with an SSH tunnel."
            )


def _has_keys(settings: Settings) -> bool:
    if settings.server_key and settings.client_key != Path():
        return True
    return os.path.exists(settings.keys / "server.key_secret")  # noqa: PTH110 (False where it may not be seen)


def host_and_port(address: str) -> tuple[str, int]:
    """Split a checked `host:port`."""
    parts = urlsplit(f"//{address}")
    return parts.hostname or "", parts.port or 0


def _check_http(value: str) -> str:
    allowed = "host:port, for instance 127.0.0.1:8765, with a port from 0 to 65535"
    try:
        parts = urlsplit(f"//{value}")
        good = bool(parts.hostname) and parts.port is not None and parts.netloc == value
        good = good and not any(character == "@" or character.isspace() for character in value)
    except ValueError:
        good = False
    return "" if good else allowed


def _check_endpoint(value: str) -> str:
    allowed = "tcp://host:port or ipc://path"
    if value.startswith("ipc://"):
        return "" if len(value) > len("ipc://") else allowed
    return _check_http(value.removeprefix("tcp://")) and allowed if value.startswith("tcp://") else allowed


def _check_endpoints(value: str) -> str:
    wrong = any(_check_endpoint(part.strip()) for part in value.split(","))
    return "tcp://host:port or ipc://path; several workers' are separated by commas" if wrong else ""


def _check_log_level(value: str) -> str:
    return "" if value in _LOG_LEVELS else ", ".join(_LOG_LEVELS)


def _check_switch(value: str) -> str:
    return "" if value in ("on", "off") else "on or off"


def _check_spool_full(value: str) -> str:
    return "" if value in ("refuse", "drop-oldest") else "refuse or drop-oldest"


def _check_token(value: str) -> str:
    good = len(value) >= MIN_TOKEN_CHARS and all("!" <= character <= "~" for character in value)
    return "" if good else f"at least {MIN_TOKEN_CHARS} characters, ASCII and without spaces"


def _check_scope(value: str) -> str:
    return "" if value in ("reads", "writes", "both") else "reads, writes or both"


def _check_origins(value: str) -> str:
    origins = [part.strip() for part in value.split(",")]
    good = value == "local" or all(_is_origin(origin) for origin in origins)
    return "" if good else "local, or origins like http://localhost:5173 separated by commas"


def _is_origin(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and value == f"{parts.scheme}://{parts.netloc}"


_CHECKS: dict[str, Callable[[Any], str]] = {
    "token": _check_token,
    "read_token": _check_token,
    "token_scope": _check_scope,
    "cors_origins": _check_origins,
    "http": _check_http,
    "metrics": _check_http,
    "ingest": _check_endpoints,
    "push": _check_endpoint,
    "feed": _check_endpoints,
    "ingest_bind": _check_endpoint,
    "push_bind": _check_endpoint,
    "feed_bind": _check_endpoint,
    "catalog": place.check_catalog,
    "storage": place.check_storage,
    "sql": _check_switch,
    "spool_full": _check_spool_full,
    "log_level": _check_log_level,
}
