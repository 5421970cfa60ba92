"""The flags that choose runs, the same for every command that lists or sums them."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from runlake.cli.moments import moment, rfc3339
from runlake.fields import DIMENSIONS


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Give a command the filter flags."""
    group = parser.add_argument_group("filters", "Each may be given several times: any of the values.")
    for name in DIMENSIONS:
        group.add_argument(f"--{name.replace('_', '-')}", action="append", default=[], metavar="VALUE")
    group.add_argument(
        "--stale", action="store_true", help="running runs whose promised sign of life (heartbeat) has not come"
    )
    when = parser.add_argument_group("time", "WHEN is 15m, 24h or 7d (ago), a date, or a time of RFC 3339.")
    when.add_argument("--since", metavar="WHEN", help="runs that started at WHEN or later")
    when.add_argument("--until", metavar="WHEN", help="runs that started before WHEN")


def filter_params(arguments: argparse.Namespace, now: datetime | None = None) -> list[tuple[str, object]]:
    """The query parameters of the filter flags. Raises CommandFailed for a time that is none."""
    now = now or datetime.now(UTC)
    params: list[tuple[str, object]] = [(name, value) for name in DIMENSIONS for value in getattr(arguments, name)]
    if arguments.stale:
        params.append(("stale", "true"))
    if arguments.since:
        params.append(("start_time_from", rfc3339(moment(arguments.since, now))))
    if arguments.until:
        params.append(("start_time_to", rfc3339(moment(arguments.until, now))))
    return params
