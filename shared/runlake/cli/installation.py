"""The files that `runlake init` writes, and what each is for."""

from __future__ import annotations

import secrets
from importlib.resources import files
from pathlib import Path
from string import Template

from msgspec import Struct

from runlake.addresses import is_loopback
from runlake.settingsdoc import as_toml

MARK = "# Written by `runlake init`"
"""How a file begins that `init` may replace and remove."""
UNITS = ("runlake-ingest.service", "runlake-query.service")
SETTINGS = Path("/etc/runlake/runlake.toml")
TOKEN = Path("/etc/runlake/token")
_UNIT_FOLDER = Path("/etc/systemd/system")
_SYSUSERS = Path("/etc/sysusers.d/runlake.conf")
_DATA, _READ_MODEL = "/var/lib/runlake", "/var/lib/runlake-query"
_LOOPBACK_ALONE = """\
# Its address is on loopback, and nothing else is reached.
IPAddressDeny=any
IPAddressAllow=localhost
"""
_TOKEN_BYTES = 32


class File(Struct, frozen=True):
    """A file to write. One that is `kept` holds what people decide or know, and is never replaced or removed."""

    path: Path
    text: str
    kept: bool
    mode: int = 0o644

    @property
    def secret(self) -> bool:
        return self.mode == 0o600


def for_folder(folder: Path, http: str | None) -> list[File]:
    """The settings of a RunLake that one user runs in a folder. `http`: where it shall listen, host:port."""
    values = {} if http is None else {"http": http}
    made = []
    if http is not None and not is_loopback(http):
        made = [_token(folder / "token")]
        values["token_file"] = str(folder / "token")
    return [File(folder / "runlake.toml", as_toml(values), kept=True), *made]


def for_system(python: Path, http: str | None) -> list[File]:
    """Settings, users and units of a RunLake that systemd runs with this interpreter, as two users."""
    open_to_others = http is not None and not is_loopback(http)
    words = {
        "python": _quoted(python),
        "settings": str(SETTINGS),
        "http": "" if http is None else f'Environment="RUNLAKE_HTTP={http}"\n',
        "reach": _LOOPBACK_ALONE,
    }
    made = []
    if open_to_others:
        made = [_token(TOKEN)]
        # systemd hands the file of root to this one service: its user need not be able to read it.
        words["http"] += f"LoadCredential=token:{TOKEN}\nEnvironment=RUNLAKE_TOKEN_FILE=%d/token\n"
        words["reach"] = ""
    values = {"data": _DATA, "read_model": _READ_MODEL}
    return [
        File(SETTINGS, as_toml(values), kept=True),
        *made,
        File(_SYSUSERS, _template("sysusers.conf").template, kept=False),
        *(File(_UNIT_FOLDER / name, _template(name).substitute(words), kept=False) for name in UNITS),
    ]


def enabled(root: Path) -> list[str]:
    """The units that are to be started with the machine, by `systemctl enable`."""
    wanted = root / _UNIT_FOLDER.relative_to("/") / "multi-user.target.wants"
    return [name for name in UNITS if (wanted / name).is_symlink()]


def _token(path: Path) -> File:
    return File(path, f"{secrets.token_urlsafe(_TOKEN_BYTES)}\n", kept=True, mode=0o600)


def _template(name: str) -> Template:
    return Template((files("runlake.cli") / "systemd" / name).read_text("utf-8"))


def _quoted(path: Path) -> str:
    """For a unit file, in which `%` begins a specifier and quotes and backslashes are special (systemd.service(5))."""
    return str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
