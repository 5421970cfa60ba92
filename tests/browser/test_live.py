"""A page that is kept open: it shares the browser's few connections with others, and does not grow."""

from __future__ import annotations

import time
from typing import Any

from playwright.sync_api import BrowserContext, Page, expect

from support.api import Api
from support.browsing import new_run, panel, settled, tile
from support.waiting import eventually

TABS = 8
HOUR_S = 3600
DRAWN = """async ([first, last]) => {
    const { Chart } = await import(new URL("charts.js", document.querySelector("script[src$='/app.js']").src).href);
    const place = document.querySelector(".drawn") ?? document.createElement("div");
    place.className = "chart drawn";
    document.querySelector("main").append(place);
    window.drawn ??= new Chart(place);
    for (let number = first; number < last; number += 1) {
        const x = [Date.UTC(2026, 0, 2), Date.UTC(2026, 0, 2, 1)];
        const series = [{ name: "runs", colour: "#0072b2", y: [number, 500 + 7 * number] }];
        await window.drawn.draw({ kind: "bar", x, zone: "UTC", span: x, series, label: `runs ${number}` });
    }
}"""
"""Draw one chart again and again, every time with a scale of its own."""


def clients(api: Api) -> float:
    """How many streams are open."""
    lines = api.get("/metrics").text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("runlake_stream_clients "))


def test_many_tabs_share_a_few_streams_and_all_of_them_stay_fresh(context: BrowserContext, api: Api) -> None:
    eventually(lambda: clients(api) == 0)
    tabs = [context.new_page() for _ in range(TABS)]
    for tab in tabs:
        tab.goto("/runs?agent_name=tabs")
        expect(tab.locator(".panel .note")).to_contain_text("No runs match")
    eventually(lambda: clients(api) == 3)
    wanted = ["every 5 s"] * (TABS - 3) + ["live"] * 3
    eventually(lambda: sorted(tab.locator(".lamp").inner_text() for tab in tabs) == wanted)
    assert api.post("/api/v1/runs", new_run(agent_name="tabs")).status == 201
    for tab in tabs:
        expect(tab.locator("table.runs tbody tr")).to_have_count(1)
    for tab in [tab for tab in tabs if tab.locator(".lamp").inner_text() == "live"]:
        tab.close()
    eventually(lambda: clients(api) == 3, 30)
    left = [tab for tab in tabs if not tab.is_closed()]
    eventually(lambda: sum(tab.locator(".lamp").inner_text() == "live" for tab in left) == 3)


def test_a_tab_in_the_background_keeps_no_stream(page: Page, api: Api) -> None:
    eventually(lambda: clients(api) == 0)
    page.goto("/runs?agent_name=hidden")
    expect(page.locator(".lamp")).to_have_text("live")
    seen(page, hidden=True)
    expect(page.locator(".lamp")).to_have_text("paused")
    eventually(lambda: clients(api) == 0)
    assert api.post("/api/v1/runs", new_run(agent_name="hidden")).status == 201
    seen(page, hidden=False)
    expect(page.locator("table.runs tbody tr")).to_have_count(1)
    expect(page.locator(".lamp")).to_have_text("live")


def seen(page: Page, *, hidden: bool) -> None:
    """A browser without a window never hides a page: say it in its place."""
    page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


class Size:
    """What a page holds, after all garbage is gone."""

    def __init__(self, page: Page) -> None:
        self._session = page.context.new_cdp_session(page)

    def now(self) -> dict[str, float]:
        for _ in range(2):
            self._session.send("HeapProfiler.collectGarbage")
        counted: dict[str, Any] = self._session.send("Memory.getDOMCounters")
        heap = self._session.send("Runtime.getHeapUsage")["usedSize"] / 2**20
        return {"heap_mib": heap, "nodes": counted["nodes"], "listeners": counted["jsEventListeners"]}


def objects(page: Page) -> int:
    """How many objects there are, after all garbage is gone: unlike bytes, it does not grow with the code that ran."""
    session = page.context.new_cdp_session(page)
    root = session.send("Runtime.evaluate", {"expression": "Object.prototype"})["result"]["objectId"]
    found = session.send("Runtime.queryObjects", {"prototypeObjectId": root})["objects"]["objectId"]
    length = {"objectId": found, "functionDeclaration": "function () { return this.length; }", "returnByValue": True}
    count: int = session.send("Runtime.callFunctionOn", length)["result"]["value"]
    session.detach()
    return count


def test_a_chart_that_is_drawn_anew_keeps_nothing_of_what_it_showed(page: Page) -> None:
    page.goto("/quarantine")
    settled(page)
    page.evaluate(DRAWN, [0, 20])
    before = objects(page)
    page.evaluate(DRAWN, [20, 120])
    expect(page.locator(".drawn .plot")).to_have_attribute("aria-label", "runs 119")
    assert objects(page) < before + 50


def test_hundreds_of_live_changes_leave_nothing_behind(context: BrowserContext, api: Api, long_form: bool) -> None:
    """In its long form (`--faults-long`): for an hour."""
    runs = [new_run(agent_name="alive", model="m", input_tokens=1) for _ in range(60)]
    assert api.post("/api/v1/runs/batch", {"runs": runs}).status == 201
    pages = {name: context.new_page() for name in ("/", "/runs", f"/runs/{runs[-1]['event_id']}")}
    for path, page in pages.items():
        page.clock.install()
        page.goto(f"{path}?agent_name=alive")
        settled(page)
    overview, table, run = pages.values()
    expect(panel(run, "Changes").locator("li")).to_have_count(1)
    made = len(runs)

    def round_of_changes(number: int) -> None:
        nonlocal made
        more = [new_run(agent_name="alive", model="m", input_tokens=1) for _ in range(20)]
        assert api.post("/api/v1/runs/batch", {"runs": more}).status == 201
        made += len(more)
        for one in runs[:5]:
            assert api.patch(f"/api/v1/runs/{one['event_id']}", {"items_failed": number}).status == 200
        for page in pages.values():
            page.clock.fast_forward(3_100)
        expect(tile(overview, "Runs")).to_have_text(f"{made:,}")
        expect(table.locator(".counted")).to_have_text(f"{min(made, 100):,} of {made:,} runs")

    sizes = {path: Size(page) for path, page in pages.items()}
    number = 0

    def smallest() -> dict[str, dict[str, float]]:
        """Of three rounds: a chart that is being drawn holds two of itself."""
        nonlocal number
        found: dict[str, list[dict[str, float]]] = {path: [] for path in sizes}
        for _ in range(3):
            round_of_changes(number)
            number += 1
            for path, size in sizes.items():
                found[path].append(size.now())
        return {path: {name: min(one[name] for one in seen) for name in seen[0]} for path, seen in found.items()}

    smallest()  # caches are full then
    before = smallest()
    end = time.monotonic() + (HOUR_S if long_form else 0)
    while number < 12 or time.monotonic() < end:
        round_of_changes(number)
        number += 1
    after = smallest()
    for path in sizes:
        assert after[path]["nodes"] <= before[path]["nodes"] * 1.1 + 100, (path, before, after)
        assert after[path]["listeners"] <= before[path]["listeners"] * 1.1 + 10, (path, before, after)
        assert after[path]["heap_mib"] <= before[path]["heap_mib"] * 1.1 + 1, (path, before, after)
