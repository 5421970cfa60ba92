"""The end of a demo: what the agents counted beside what the API says."""

from __future__ import annotations

import time
from collections.abc import Sequence

from msgspec import Struct

from runlake.cli.api import Api
from runlake.cli.demo.plan import HISTORIAN
from runlake.cli.demo.tally import Tally
from runlake.cli.output import print_table

_PAGE = 1_000


class Counts(Struct, frozen=True, kw_only=True):
    """The four numbers that both sides must have alike."""

    runs: int
    events: int
    commits: int
    failures: int


class Summary(Struct, frozen=True, kw_only=True):
    """A demo's outcome. `equal` is whether all that was counted arrived, and nothing else."""

    demo_id: str
    took_s: float
    visible_after_s: float
    agents: Counts
    api: Counts
    undelivered: int
    equal: bool
    by_agent: dict[str, int]


def compare(api: Api, demo_id: str, tallies: Sequence[Tally], took_s: float, timeout_s: float) -> Summary:
    """Ask the API until its counts are those of the agents, or `timeout_s` is over. Raises CommandFailed."""
    counted = Counts(
        runs=sum(tally.runs for tally in tallies),
        events=sum(tally.events for tally in tallies),
        commits=len({commit for tally in tallies for commit in tally.commits}),
        failures=sum(tally.failures for tally in tallies),
    )
    undelivered = sum(tally.undelivered for tally in tallies)
    began = time.monotonic()
    while True:
        seen = _ask(api, demo_id)
        waited_s = time.monotonic() - began
        if seen == counted or waited_s > timeout_s:
            break
        time.sleep(0.1)
    by_agent: dict[str, int] = {}
    for tally in tallies:
        by_agent[tally.agent] = by_agent.get(tally.agent, 0) + tally.runs
    return Summary(
        demo_id=demo_id,
        took_s=round(took_s, 3),
        visible_after_s=round(waited_s, 3),
        agents=counted,
        api=seen,
        undelivered=undelivered,
        equal=seen == counted and undelivered == 0,
        by_agent=by_agent,
    )


def _ask(api: Api, demo_id: str) -> Counts:
    only = ("insight_id", demo_id)
    totals = api.get("/api/v1/rollups", [only, ("measures", "runs,failure,events")])["totals"]
    listed = api.get("/api/v1/runs", [only, ("limit", 1)])["total"]
    return Counts(
        runs=listed if listed == totals["runs"] else -1,  # the list and the rollup must agree, too
        events=totals["events"],
        commits=len(_commits(api, demo_id)),
        failures=totals["failure"],
    )


def _commits(api: Api, demo_id: str) -> set[str]:
    found: set[str] = set()
    offset = 0
    while True:
        page = api.get(
            "/api/v1/runs",
            [("insight_id", demo_id), ("agent_name", HISTORIAN), ("limit", _PAGE), ("offset", offset)],
        )
        found.update(run["commit_hash"] for run in page["runs"] if run["commit_hash"])
        offset += _PAGE
        if offset >= page["total"]:
            return found


def print_summary(summary: Summary, url: str) -> None:
    """Print a summary for people."""
    names = Counts.__struct_fields__
    rows = [
        [name, getattr(summary.agents, name), getattr(summary.api, name), "equal" if same else "DIFFERENT"]
        for name in names
        for same in [getattr(summary.agents, name) == getattr(summary.api, name)]
    ]
    agents = ", ".join(f"{name} {runs:,} runs" for name, runs in summary.by_agent.items())
    print(f"{agents}, in {summary.took_s:.1f} s")
    print_table("", ["", "agents counted", "API says", " "], rows)
    if summary.undelivered:
        print(f"{summary.undelivered:,} messages were not acknowledged in time.")
    print("Everything that the agents counted is there." if summary.equal else "The two sides do not agree.")
    print(f"\nLook further:\n  {url}/api/v1/runs?insight_id={summary.demo_id}&limit=10")
    print("  runlake runs --status failure\n  runlake rollup --by agent_name,job_type --bucket day --since 7d")
    print(f"  {url}/?insight_id={summary.demo_id}  (the dashboard)")
