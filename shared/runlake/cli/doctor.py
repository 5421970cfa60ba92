"""`runlake doctor`: looks at everything that RunLake needs, and says how to fix what is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from runlake import settings as settings_module
from runlake.cli.check_data import check_catalog, check_data_folder
from runlake.cli.check_keys import check_keys
from runlake.cli.check_packages import check_packages
from runlake.cli.check_processes import PROCESSES, check_processes, expected_here
from runlake.cli.findings import Finding, as_text
from runlake.cli.installation import enabled
from runlake.cli.output import print_json
from runlake.cli.subcommands import Subcommands
from runlake.settings import Settings


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="check versions, ports, data folder and both processes",
        description="Check all that RunLake needs. Exit status 0 when nothing must be fixed, else 1. On one machine"
        " both processes ought to run; of a cluster those that systemd starts here, or else those that listen here.",
    )
    parser.add_argument("process", nargs="?", choices=PROCESSES, help="the one process that ought to run here")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    settings_module.add_flags(parser)
    parser.set_defaults(run=doctor)


def doctor(arguments: argparse.Namespace) -> int:
    """Print every finding. Returns 1 when there is a problem among them."""
    findings = []
    for finding in _examine(settings_module.from_arguments(arguments), arguments.process):
        findings.append(finding)
        if not arguments.json:
            print(as_text(finding), flush=True)
    problems = sum(finding.state == "problem" for finding in findings)
    if arguments.json:
        print_json({"problems": problems, "findings": findings})
    else:
        print("\nAll is well." if not problems else f"\n{problems} to fix, marked ✗.")
    return 1 if problems else 0


def _examine(settings: Settings, asked: str | None) -> Iterator[Finding]:
    units = enabled(Path("/"))
    expected = expected_here(settings, asked, [name for name in PROCESSES if f"runlake-{name}.service" in units])
    yield from check_packages(settings.lake)
    yield from check_data_folder(settings)
    yield from check_catalog(settings)
    yield from check_keys(settings, with_worker="ingest" in expected.here)
    yield from check_processes(settings, expected)
