"""The files of the dashboard, in memory: under a name that holds their version, so that browsers keep them for good."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
CHARTS = "Chart.bundle.js"


class Asset(Struct, frozen=True):
    """One file: its content type, its bytes, and the same compressed."""

    content_type: str
    body: bytes
    gzipped: bytes


class Assets:
    """All of them by name, and the version that they make together (a hash, in hex)."""

    def __init__(self, assets: Mapping[str, Asset], page: str) -> None:
        self._assets = assets
        self.page = page
        """The one page, with `{{version}}`, `{{config}}` and `{{preloads}}` to be filled in."""
        self.modules = sorted(name for name in assets if name.endswith(".js") and name != CHARTS)
        """The page's own modules, all of which it loads."""
        digest = hashlib.sha256(page.encode())
        for name in sorted(assets):
            digest.update(name.encode())
            digest.update(assets[name].body)
        self.version = digest.hexdigest()[:16]

    def get(self, name: str) -> Asset | None:
        """The file of that name, or None."""
        return self._assets.get(name)


def load_assets() -> Assets:
    """Read the files from where the packages are installed. Takes about a tenth of a second."""
    found: dict[str, Asset] = {}
    page = ""
    for entry in files(__package__).joinpath("static").iterdir():
        if entry.name == "index.html":
            page = entry.read_text(encoding="utf-8")
        elif Path(entry.name).suffix in _TYPES:
            found[entry.name] = _asset(entry.name, entry.read_bytes(), 9)
    found[CHARTS] = _asset(CHARTS, _charts().read_bytes(), 9)
    return Assets(found, page)


def _asset(name: str, body: bytes, level: int) -> Asset:
    return Asset(_TYPES[Path(name).suffix], body, gzip.compress(body, level, mtime=0))


def _charts() -> Path:
    """Chart.js, from the Python package chartkick, which has nothing else that is used here."""
    spec = find_spec("chartkick")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("The dashboard needs the package chartkick: pip install 'runlake[query]'")
    return Path(spec.submodule_search_locations[0]) / "django" / "static" / "chartkick" / CHARTS
