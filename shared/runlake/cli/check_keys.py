"""Do the keys fit: those of the worker, and those of who connects to it?"""

from __future__ import annotations

from collections.abc import Iterator

from runlake.cli.findings import Finding, good, note, problem
from runlake.errors import SettingsError
from runlake.keyfolder import KeyFolder
from runlake.settings import Settings, variable


def check_keys(settings: Settings, *, with_worker: bool) -> Iterator[Finding]:
    """Rights, missing halves, and keys that belong to others. Nothing, where none are set and none are needed.

    `with_worker`: there ought to be a worker here, and so its keys.
    """
    if not with_worker:
        yield from _check_client(settings)
        return
    folder = KeyFolder(settings.keys)
    try:
        server = settings.server_keys
    except SettingsError as error:
        yield problem(
            str(error), f"runlake keys ls; or set {variable('keys')} to the folder that has the worker's keys"
        )
        return
    try:
        client = settings.client_keys
    except SettingsError as error:
        yield problem(str(error), "runlake keys create client")
        return
    if server is None:
        return
    allowed = folder.allowed()
    yield good(f"the worker has keys, in {folder.path}; clients that it lets in: {len(allowed.names):,}")
    for told in allowed.problems:
        yield problem(told, "remove it; then: runlake keys allow FILE")
    if client is None:
        yield note("none of them is set here, for commands and a query process", "runlake keys create client")
    elif client.server != server.own.public:
        yield problem(
            f"{variable('server_key')} is {client.server}, and the worker's public key is {server.own.public}",
            f"set {variable('server_key')} to the second, where that worker is meant",
        )
    elif client.own.public not in allowed.names:
        yield problem(
            f"the key that is used here, {client.own.public}, is not let in",
            f"runlake keys allow '{client.own.public}'",
        )


def _check_client(settings: Settings) -> Iterator[Finding]:
    """The keys of who only connects: whether its worker lets them in, that says."""
    try:
        client = settings.client_keys
    except SettingsError as error:
        yield problem(str(error), "runlake keys create client")
        return
    if client is not None:
        yield good(f"there are keys to connect to workers with: {client.own.public}")
