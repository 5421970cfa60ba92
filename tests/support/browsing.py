"""What a browser is shown in tests, and what it complained of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

from support import contract
from support.api import Api

DEADLINE_MS = 20_000
_SQL = "SELECT date_trunc('hour', start_time) AS hour, count(*) AS runs FROM runs GROUP BY hour ORDER BY hour"
VIEWS = {
    "overview": "/?range=7d",
    "runs": "/runs?range=7d",
    "run": "/runs/tree%20root",
    "compare": "/compare?a=tree%20root&b=history%203",
    "commits": "/commits?range=7d",
    "commit": "/commits/9fceb02d0ae598e95dc970b74767f19372d61af8",
    "producers": "/producers",
    "quarantine": "/quarantine",
    "system": "/system",
    "sql": f"/sql?{urlencode({'sql': _SQL})}",
}
"""Every view by name, at a place where it shows some of what `fill` writes."""
TRACEBACK = 'Traceback (most recent call last):\n  File "crawl.py", line 7, in fetch\nValueError: no such page'

_OVERFLOWING = """() => [
    document.documentElement, ...document.querySelectorAll(".panel, .panel > .body, .controls, .run-head, header"),
]
    .filter((part) => part.scrollWidth > Math.min(part.clientWidth, innerWidth) + 1)
    .map((part) => `${part.tagName} ${part.className} ${part.scrollWidth} > ${part.clientWidth}`)"""

_MARKS = """(canvas, series) => {
    const { left, top } = canvas.getBoundingClientRect();
    return Chart.getChart(canvas).getDatasetMeta(series).data
        .map((mark) => mark.getProps(["x", "y", "base", "skip"]))
        .filter(({ skip, y }) => !skip && !Number.isNaN(y))
        .map(({ x, y, base }) => [left + x, (top + y + top + (base ?? y)) / 2, Math.abs((base ?? y) - y)]);
}"""


class Seen:
    """What a page complained of while it was open."""

    def __init__(self, page: Page) -> None:
        self.complaints: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")


def new_run(**fields: Any) -> dict[str, Any]:
    """A run that starts now: views show the last day."""
    return contract.new_run(**{"start_time": datetime.now(UTC).isoformat(), **fields})


def fill(api: Api) -> None:
    """Sixty runs over the last day, one tree with events, an error and a commit."""
    now = datetime.now(UTC)
    runs = []
    for number in range(60):
        start = now - timedelta(minutes=20 * number + 1)
        status = ("success", "success", "success", "failure", "partial", "cancelled")[number % 6]
        runs.append(
            new_run(
                run_id=f"history {number}",
                agent_name=("crawler", "writer", "judge")[number % 3],
                job_type=("crawl", "draft")[number % 2],
                product="atlas" if number % 4 else None,
                start_time=start.isoformat(),
                end_time=(start + timedelta(seconds=2 + number)).isoformat(),
                status=status,
                error_summary="ValueError: no such page" if status == "failure" else None,
                error_details=TRACEBACK if status == "failure" else None,
                model=("small-1", "large-2")[number % 2],
                input_tokens=1_000 + number,
                output_tokens=100 + number,
                cost_usd=0.01 * (1 + number % 5),
            )
        )
    assert api.post("/api/v1/runs/batch", {"runs": runs}).status == 201
    root = new_run(
        run_id="tree root",
        agent_name="orchestrator",
        job_type="launch",
        start_time=(now - timedelta(minutes=5)).isoformat(),
    )
    assert api.post("/api/v1/runs", root).status == 201
    children = [
        new_run(
            run_id=f"tree child {number}",
            parent_run_id="tree root",
            start_time=(now - timedelta(minutes=4 - number)).isoformat(),
            end_time=(now - timedelta(minutes=3 - number)).isoformat(),
            status="success",
        )
        for number in range(3)
    ]
    assert api.post("/api/v1/runs/batch", {"runs": children}).status == 201
    events = [{"type": "step", "payload": {"number": number, "nested": {"deep": [1, 2]}}} for number in range(4)]
    assert api.post("/api/v1/runs/tree%20root/events", events).status == 201
    commit = {"commit_hash": "9fceb02d0ae598e95dc970b74767f19372d61af8", "commit_source": "ci"}
    assert api.post(f"/api/v1/runs/{root['event_id']}/associate-commit", commit).status == 200


def tile(page: Page, name: str) -> Locator:
    """The number of the overview that bears this name."""
    return page.locator(".tiles > div").filter(has=page.get_by_text(name, exact=True)).locator("dd")


def panel(page: Page, name: str) -> Locator:
    """A framed part of a view."""
    return page.get_by_role("region", name=name, exact=True)


def settled(page: Page) -> None:
    """Wait until nothing is being loaded any more, and what there is to be drawn is."""
    expect(page.locator("main h1")).to_have_count(1)
    expect(page.locator("[aria-busy]")).to_have_count(0)
    expect(page.locator(".chart:visible:not(:has(canvas))")).to_have_count(0)


class Mark(NamedTuple):
    """A bar or a point of a chart: its middle in the window, and how high it is; px."""

    x: float
    y: float
    height: float


def marks(page: Page, name: str, series: int = 0) -> list[Mark]:
    """Those of one series of the chart in this panel that stand for something, from left to right."""
    canvas = panel(page, name).locator("canvas")
    return [Mark(*found) for found in canvas.evaluate(_MARKS, series)]


def overflowing(page: Page) -> list[str]:
    """What is wider than the window, or than the panel that it is in."""
    found: list[str] = page.evaluate(_OVERFLOWING)
    return found
