"""The dashboard in a real browser over a long history: its weight, first paint, first chart, and memory while live.

10 million runs (short: 20 thousand), of which the overview shows the last 24 hours. Needs Chromium, and says so.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from benchmarks.figures import figure, percentile
from benchmarks.history_lake import make_history
from support.api import Api
from support.browsing import new_run
from support.processes import Site

RUNS = 10_000_000
_DEADLINE_S = 1_800.0
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_VIEWS = {"overview": "section[aria-label='Runs'] .main-svg", "runs": "table.runs tbody tr"}


def run(short: bool) -> None:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise SystemExit("The benchmark of the dashboard needs Chromium: apt-get install chromium")
    runs = 20_000 if short else RUNS
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        site = Site(Path(folder))
        make_history(site.data, runs, datetime.now(UTC))
        with site.ingest():
            query, url = site.query(caught_up=False)
            query.wait_for("caught_up", _DEADLINE_S)
            with query, _browser(playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])) as browser:
                _views(browser, url, runs, times=2 if short else 7)
                _live(browser, url, runs, updates=30 if short else 1_000)


@contextmanager
def _browser(browser: Browser) -> Iterator[Browser]:
    try:
        yield browser
    finally:
        browser.close()


def _views(browser: Browser, url: str, runs: int, times: int) -> None:
    """Each time with a new profile, so that nothing is cached; then once more in the same one."""
    for view, shown in _VIEWS.items():
        path = "/" if view == "overview" else f"/{view}"
        paints, firsts, agains = [], [], []
        sizes: list[float] = []
        for _ in range(times):
            context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 900})
            page = context.new_page()
            weight = _weigh(context.new_cdp_session(page))
            firsts.append(_open(page, path, shown))
            paints.append(page.evaluate(_PAINT))
            sizes.append(sum(weight) / 1024)
            agains.append(_open(page, path, shown))
            context.close()
        facts = {"runs": runs, "times": times}
        figure(f"dashboard {view} weight", percentile(sizes, 0.5), "KiB", **facts)
        figure(f"dashboard {view} first paint p50", percentile(paints, 0.5), "ms", **facts)
        figure(f"dashboard {view} shown p50", percentile(firsts, 0.5), "ms", **facts)
        figure(f"dashboard {view} shown slowest", max(firsts), "ms", **facts)
        figure(f"dashboard {view} shown again p50", percentile(agains, 0.5), "ms", **facts)


def _open(page: Page, path: str, shown: str) -> float:
    """Milliseconds from the request to what the view is for."""
    page.goto(path)
    page.locator(shown).first.wait_for(state="attached", timeout=60_000)
    return float(page.evaluate("performance.now()"))


def _weigh(session: CDPSession) -> list[float]:
    sizes: list[float] = []
    session.send("Network.enable")
    session.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    return sizes


def _live(browser: Browser, url: str, runs: int, updates: int) -> None:
    """The heap of a page before and after many updates, garbage collected."""
    page = browser.new_page(base_url=url)
    session = page.context.new_cdp_session(page)
    page.goto("/runs?agent_name=dashboard-bench")
    page.locator(".counted").wait_for(state="attached")
    api = Api(url)

    def heap_mib() -> float:
        session.send("HeapProfiler.collectGarbage")
        return float(session.send("Runtime.getHeapUsage")["usedSize"]) / 2**20

    def update(number: int) -> None:
        fields = new_run(agent_name="dashboard-bench", run_id=f"live {number}")
        assert api.post("/api/v1/runs", fields).status == 201

    for number in range(100):
        update(number)
    page.locator("table.runs tbody tr").nth(99).wait_for(state="attached", timeout=60_000)
    before = heap_mib()
    for number in range(100, 100 + updates):
        update(number)
    page.locator(f".counted:text-matches('of {100 + updates:,} runs')").wait_for(timeout=60_000)
    figure("dashboard heap before live updates", before, "MiB", runs=runs)
    figure("dashboard heap after live updates", heap_mib(), "MiB", runs=runs, updates=updates)
    api.close()
    page.close()
