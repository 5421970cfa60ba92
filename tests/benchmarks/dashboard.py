"""The dashboard in a real browser over a long history: its weight, first paint, first chart, and its size while live.

10 million runs (short: 20 thousand), of which the overview shows the last 24 hours. Needs Chromium, and says so.
`HISTORY_LAKES=FOLDER` measures the lakes that `history` keeps there, `HISTORY_RUNS` says of which size;
`DASHBOARD_LIVE_S=3600` keeps pages live for an hour instead of a minute.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from playwright.sync_api import Browser, CDPSession, Page, expect, sync_playwright

from benchmarks.figures import figure, percentile
from benchmarks.history_site import history_site
from support.api import Api
from support.browsing import new_run

RUNS = 10_000_000
_DEADLINE_S = 1_800.0
_DEADLINE_MS = 60_000
_PAINT = """new Promise((told) => new PerformanceObserver((list) => {
    for (const { startTime } of list.getEntriesByName("first-contentful-paint")) told(startTime);
}).observe({ type: "paint", buffered: true }))"""
"""It may be told after the charts are drawn: they may be in the first frame that has anything."""
_PRESENTED = "new Promise((told) => requestAnimationFrame(() => requestAnimationFrame(told)))"
"""When the frame after the next one begins: what was drawn before has been seen."""
_CHARTS = tuple(
    f"section[aria-label='{title}'] canvas"
    for title in ("Runs", "Success rate", "Duration", "Tokens by model", "Cost by model")
)
_VIEWS = {
    "overview": ("/", _CHARTS),
    "overview of 30 days": ("/", _CHARTS),
    "runs": ("/runs", ("table.runs tbody tr",)),
}
"""Of each view its path, and what is there when it is shown: every chart that the window has room for."""
_LIVE_RUNS = 100
_MARKS = 6


def run(short: bool) -> None:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise SystemExit("The benchmark of the dashboard needs Chromium: apt-get install chromium")
    runs = int(os.environ.get("HISTORY_RUNS", "20000" if short else str(RUNS)))
    live_s = float(os.environ.get("DASHBOARD_LIVE_S", "2" if short else "60"))
    with history_site(runs) as (site, end), sync_playwright() as playwright, site.ingest():
        query, url = site.query(caught_up=False)
        query.wait_for("caught_up", _DEADLINE_S)
        with query, _browser(playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])) as browser:
            _views(browser, url, runs, end, times=2 if short else 7)
            _live(browser, url, runs, live_s)


@contextmanager
def _browser(browser: Browser) -> Iterator[Browser]:
    try:
        yield browser
    finally:
        browser.close()


def _views(browser: Browser, url: str, runs: int, end: datetime, times: int) -> None:
    """Each time with a new profile, so that nothing is cached; then once more in the same one."""
    for view, (path, shown) in _VIEWS.items():
        days = 30 if "30" in view else 1
        span = {"from": (end - timedelta(days=days)).isoformat(), "to": end.isoformat()}
        paints, firsts, agains = [], [], []
        sizes: list[float] = []
        for _ in range(times):
            context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 900})
            page = context.new_page()
            weight = _weigh(context.new_cdp_session(page))
            firsts.append(_open(page, f"{path}?{urlencode(span)}", shown))
            paints.append(page.evaluate(_PAINT))
            sizes.append(sum(weight) / 1024)
            agains.append(_open(page, f"{path}?{urlencode(span)}", shown))
            context.close()
        facts = {"runs": runs, "times": times}
        figure(f"dashboard {view} weight", percentile(sizes, 0.5), "KiB", **facts)
        figure(f"dashboard {view} first paint p50", percentile(paints, 0.5), "ms", **facts)
        figure(f"dashboard {view} shown p50", percentile(firsts, 0.5), "ms", **facts)
        figure(f"dashboard {view} shown slowest", max(firsts), "ms", **facts)
        figure(f"dashboard {view} shown again p50", percentile(agains, 0.5), "ms", **facts)


def _open(page: Page, path: str, shown: tuple[str, ...]) -> float:
    """Milliseconds from the request to all that the view is for."""
    page.goto(path)
    for part in shown:
        page.locator(part).first.wait_for(state="attached", timeout=_DEADLINE_MS)
    return float(page.evaluate(_PRESENTED))


def _weigh(session: CDPSession) -> list[float]:
    sizes: list[float] = []
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    return sizes


def _live(browser: Browser, url: str, runs: int, seconds: float) -> None:
    """What pages hold from the first of the live changes to the last, at marks; the changes come twenty at a time, and
    pages show each before the next."""
    context = browser.new_context(base_url=url)
    api = Api(url)
    made = 0
    agent = f"dashboard-bench-{uuid4().hex[:8]}"  # a kept lake has those of earlier measurements

    def change() -> None:
        nonlocal made
        more = [new_run(agent_name=agent, model="m", input_tokens=1) for _ in range(20)]
        assert api.post("/api/v1/runs/batch", {"runs": more}).status == 201
        made += len(more)
        expect(table.locator(".counted")).to_contain_text(f"{made:,}", timeout=_DEADLINE_MS)
        expect(overview.locator(f".tiles [title^='{made:,}']").first).to_be_attached(timeout=_DEADLINE_MS)

    while made < _LIVE_RUNS:
        made += 20
        more = [new_run(agent_name=agent, model="m", input_tokens=1) for _ in range(20)]
        assert api.post("/api/v1/runs/batch", {"runs": more}).status == 201
    table, overview = context.new_page(), context.new_page()
    table.goto(f"/runs?agent_name={agent}")
    overview.goto(f"/?agent_name={agent}")
    change()
    begun = time.monotonic()
    for mark in range(_MARKS + 1):
        while time.monotonic() < begun + seconds * mark / _MARKS:
            change()
        facts: dict[str, Any] = {"runs": runs, "changes": made - _LIVE_RUNS, "seconds": time.monotonic() - begun}
        for view, page in (("runs", table), ("overview", overview)):
            for name, value, unit in _size(page):
                figure(f"dashboard {view} {name} live", value, unit, **facts)
    api.close()
    context.close()


def _size(page: Page) -> list[tuple[str, float, str]]:
    """What a page holds, after all garbage is gone: name, value and unit of each figure."""
    session = page.context.new_cdp_session(page)
    for _ in range(2):
        session.send("HeapProfiler.collectGarbage")
    heap = float(session.send("Runtime.getHeapUsage")["usedSize"]) / 2**20
    nodes = float(session.send("Memory.getDOMCounters")["nodes"])
    session.detach()
    return [("heap", heap, "MiB"), ("nodes", nodes, "nodes")]
