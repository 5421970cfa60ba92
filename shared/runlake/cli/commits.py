"""`runlake commits NAME`: from a commit to its runs, or from a run to its commits."""

from __future__ import annotations

import argparse
import re
from typing import Any

from runlake import settings as settings_module
from runlake.cli.api import Api, in_path
from runlake.cli.failure import CommandFailed
from runlake.cli.output import cell, clock, for_people, print_json_text, print_table, span
from runlake.cli.subcommands import Subcommands

_SHA = re.compile(r"[0-9a-fA-F]{4,40}")


def add_to(commands: Subcommands) -> None:
    parser = commands.add_parser(
        "commits",
        help="the runs of a commit, or the commits of a run",
        description="The runs of a commit and all below them; or the commits of a run, whichever came last. JSON when"
        " the output is not a terminal.",
    )
    settings_module.add_flags(parser, "http")
    parser.add_argument("name", metavar="SHA|RUN", help="a commit hash (4 characters are enough), a run_id or event_id")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="how many, 1 to 1000 (default: 100)")
    parser.add_argument("--json", action="store_true", help="print the API's answer as it is")
    parser.set_defaults(run=show_commits)


def show_commits(arguments: argparse.Namespace) -> int:
    """Print the runs of a commit; when there is no such commit, the commits of the run of that name."""
    settings = settings_module.from_arguments(arguments)
    api = Api(settings.http, settings.token)
    people = for_people(arguments.json)
    if _SHA.fullmatch(arguments.name):
        try:
            return print_commit(api, arguments.name, arguments.limit, people=people)
        except CommandFailed as failure:
            if not failure.message.startswith("Commit not found"):
                raise
    text = api.text(f"/api/v1/runs/{in_path(arguments.name)}/commits", [("limit", arguments.limit)])
    if not people:
        print_json_text(text)
        return 0
    answer = api.decoded(text)
    rows = [
        [clock(said["ts"]), said["commit_hash"], said["commit_source"], said["commit_author"]]
        for said in answer["associations"]
    ]
    first = "the first " if answer["truncated"] else ""
    print_table(f"{first}{len(rows):,} commits of {cell(arguments.name)}", ["at", "commit", "source", "author"], rows)
    return 0


def print_commit(api: Api, sha: str, limit: int, *, people: bool) -> int:
    """Print the runs of a commit, each below its parent. Raises CommandFailed."""
    text = api.text(f"/api/v1/commits/{in_path(sha)}/runs", [("limit", limit)])
    if not people:
        print_json_text(text)
        return 0
    answer = api.decoded(text)
    print_tree(f"{len(answer['associations']):,} × commit {answer['commit_hash']}", answer)
    return 0


def print_tree(title: str, answer: dict[str, Any]) -> None:
    """Print the runs of a tree, indented, with the totals of what is below each."""
    rows = []
    for item in answer["runs"]:
        run, totals = item["run"], item["totals"]
        mark = "* " if item.get("associated") else ""
        tokens = totals["input_tokens"] + totals["output_tokens"]
        rows.append([
            "  " * item["depth"] + mark + run["run_id"], run["agent_name"], run["job_type"], run["status"],
            span(run["duration_ms"]), totals["runs"], totals["failures"], tokens, totals["cost_usd"],
        ])  # fmt: skip
    cut = f"; the first {len(rows):,} of {answer['total']:,}" if answer["truncated"] else ""
    part = "" if answer["complete"] else "; there are more than are looked at"
    heads = ["run", "agent", "job", "status", "took", "runs", "failures", "tokens", "cost"]
    print_table(f"{title}: {answer['total']:,} runs{cut}{part}", heads, rows, cut=("agent", "job"))
