"""Is what RunLake runs on installed, in versions that fit together?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from runlake.cli.findings import Finding, good, note, problem
from runlake.errors import LakeError
from runlake.lake.place import LakePlace

_OLDEST_PYTHON = (3, 11)
_SERVER_PACKAGES = ("duckdb", "aiohttp")
_INSTALL = "pip install 'runlake[server]'"
_INSTALL_CLUSTER = "pip install 'runlake[server,cluster]'"


def check_packages(place: LakePlace) -> Iterator[Finding]:
    """Python, our own version, and the packages of the two processes, for a lake at `place`."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < _OLDEST_PYTHON:
        yield problem(f"Python {python} is too old", "install Python 3.11 or newer, and RunLake for it")
    else:
        yield good(f"RunLake {version('runlake')} on Python {python} ({sys.executable})")
    yield good(f"msgspec {version('msgspec')}, pyzmq {version('pyzmq')}: enough for agents")
    missing = []
    found = []
    for name in _SERVER_PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        yield note(f"{' and '.join(missing)} missing: agents can run here, the two processes cannot", _INSTALL)
        return
    yield good(f"{', '.join(found)}: enough for the two processes")
    yield _extensions(place)


def _extensions(place: LakePlace) -> Finding:
    """Whether DuckDB loads its extensions from their packages, by doing it."""
    from runlake.lake.duck import connect, extensions_for  # noqa: PLC0415 (an extra)

    try:
        connect(place=place).close()
    except LakeError as error:
        return problem(str(error), _INSTALL_CLUSTER if place.is_remote else _INSTALL)
    except Exception as error:  # noqa: BLE001 (whatever DuckDB says about a binary that does not fit)
        return problem(f"DuckDB cannot load its extensions: {error}", f"{_INSTALL} --force-reinstall")
    return good(f"DuckDB loads {' and '.join(extensions_for(place))} from their packages, without a download")
