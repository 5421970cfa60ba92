"""By which names this process may be addressed.

A page of another site can have its own name resolve to 127.0.0.1 and then read what is served there (DNS rebinding).
What needs no token is therefore answered only under names that are ours. An address cannot be rebound; where a token
guards everything, a name gives nothing, because the cookie belongs to the name under which one signed in.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from runlake_query.problems import Problem

_MAX_PASSED = 64
_MAX_PASSED_CHARS = 300


class Misdirected(Problem):
    """421: asked under a name that is not ours."""

    def __init__(self, name: str) -> None:
        super().__init__(
            421, f"This process is not served under the name {name[:100]!r}; if it should be, add it to RUNLAKE_HOSTS."
        )


class Hosts:
    """`names`: those of the settings and of the machine. `guarded`: whether everything needs a token."""

    def __init__(self, names: Iterable[str] = (), *, listed: Iterable[str] = (), guarded: bool = False) -> None:
        self._listed = frozenset(name.strip().lower().rstrip(".") for name in listed if name.strip())
        self._names = self._listed | {name.lower() for name in names} | {"localhost"}
        self._any = guarded and not self._listed
        self._passed: set[str] = set()
        """Headers that were looked at and are ours; a few, for every client sends one of a few."""

    def check(self, header: str | None) -> None:
        """Return when a request with this Host header may go on. Raises Misdirected. HTTP/1.0 may leave it out."""
        if self._any or not header or header in self._passed:
            return
        name = _name_of(header)
        if not (name in self._names or name.endswith(".localhost") or _is_address(name)):
            raise Misdirected(name)
        if len(self._passed) < _MAX_PASSED and len(header) <= _MAX_PASSED_CHARS:
            self._passed.add(header)


def _name_of(header: str) -> str:
    """The Host header without its port (RFC 9110, section 7.2)."""
    host = header.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
