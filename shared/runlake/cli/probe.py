"""`runlake probe`: is one process well? For health checks: one line, an exit status, and a deadline."""

from __future__ import annotations

import argparse
import http.client

from runlake import settings as settings_module
from runlake.cli.failure import CommandFailed
from runlake.cli.subcommands import Subcommands
from runlake.settings import host_and_port

_TIMEOUT_S = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""An address to listen on at all of a machine's, and the one at which the machine itself finds it."""


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "probe",
        help="ask one process whether it is well, for health checks",
        description="Exit status 0 when the process serves: ingest its metrics page, query its answers, in step with"
        " the lake; else 1.",
    )
    parser.add_argument("process", choices=("ingest", "query"))
    parser.add_argument(
        "--timeout", type=float, default=_TIMEOUT_S, metavar="SECONDS", help="how long to wait (default: 5)"
    )
    settings_module.add_flags(parser, "http", "metrics", "token_file")
    parser.set_defaults(run=probe)


def probe(arguments: argparse.Namespace) -> int:
    """Ask, once. Raises CommandFailed when it is not well; SettingsError."""
    settings = settings_module.from_arguments(arguments)
    if arguments.process == "ingest":
        address, path = settings.metrics, "/metrics"
    else:
        address, path = settings.http, "/ready"
    token = str(settings.token)
    host, port = host_and_port(address)
    connection = http.client.HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=arguments.timeout)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise CommandFailed(f"{arguments.process} does not answer at {address}{path}: {error}") from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        text = body[:500].decode("utf-8", "replace").strip()
        raise CommandFailed(f"{arguments.process} answers {answer.status} at {address}{path}: {text}")
    print(f"{arguments.process} is well")
    return 0
