"""The states of every view: loading, empty, wrong, and old."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from support.api import Api
from support.browsing import DEADLINE_MS, VIEWS, Seen, new_run, panel, settled
from support.postgres import free_port
from support.processes import Site

MAIN = {
    "overview": "Runs", "runs": "Runs", "run": "Facts", "compare": "Fields that differ", "commits": "Commits",
    "commit": "Commits", "producers": "Producers", "quarantine": "Quarantine", "system": "State", "sql": "Result",
}  # fmt: skip
"""For each view the panel that it is for."""
EMPTY = {
    "overview": "No runs in this range.", "runs": "No runs match.", "commits": "No run in this range has a commit.",
    "producers": "Nothing was received yet.", "quarantine": "Nothing was refused.",
}  # fmt: skip


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a RunLake that has nothing yet."""
    site = Site(tmp_path_factory.mktemp("empty"))
    with site.ingest():
        query, url = site.query()
        with query:
            yield url


def test_while_it_loads_every_view_says_so(page: Page) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile("/(api/v1|ready|health|metrics)"), hold)
    for view, path in VIEWS.items():
        page.goto(path)
        main = panel(page, MAIN[view])
        expect(main).to_have_attribute("aria-busy", "true")
        expect(main.locator(".note")).to_have_text(re.compile("^(Loading|Running) …$"))
    page.unroute_all()
    page.reload()
    expect(panel(page, MAIN[view])).not_to_have_attribute("aria-busy", "true")


def test_where_nothing_is_every_view_says_what_that_means(browser: Browser, empty: str) -> None:
    context = browser.new_context(base_url=empty)
    context.set_default_timeout(DEADLINE_MS)
    page = context.new_page()
    seen = Seen(page)
    for view, said in EMPTY.items():
        page.goto(VIEWS[view])
        expect(panel(page, MAIN[view])).to_contain_text(said)
        settled(page)
    page.goto("/system")
    expect(panel(page, "Alerts")).to_contain_text("Nothing needs you.")
    page.goto("/compare")
    expect(panel(page, "Fields that differ")).to_contain_text("Two runs are compared from the page of one of them")
    assert seen.complaints == []
    context.close()


def test_what_is_asked_wrongly_is_answered_with_the_reason_in_every_view(context: BrowserContext) -> None:
    page = context.new_page()
    for path, name, said in [
        ("/?min_duration_ms=long", "Runs", "min_duration_ms"),
        ("/?status=odd", "Top agents", "status"),
        ("/runs?max_duration_ms=-1", "Runs", "max_duration_ms"),
        ("/commits?root=maybe", "Commits", "root"),
        ("/commits/ab", "Commits", "sha"),
        ("/runs/no%20such", "Facts", "Run not found: no such"),
        ("/compare?a=no%20such&b=tree%20root", "Fields that differ", "Run not found: no such"),
        ("/sql?sql=SELEC", "Result", "sql:"),
    ]:
        page.goto(path)
        expect(panel(page, name)).to_contain_text(said)
        expect(panel(page, name)).not_to_have_attribute("aria-busy", "true")
        expect(page.locator(".lamp")).to_have_class(re.compile("bad"))
    page.get_by_role("link", name="Overview").click()
    expect(page.locator(".lamp")).to_have_text("live")


def test_what_cannot_be_asked_again_is_marked_as_old_and_comes_back(context: BrowserContext, api: Api) -> None:
    run = new_run(run_id="going on")
    assert api.post("/api/v1/runs", run).status == 201
    page = context.new_page()
    page.clock.install()
    for path, name in [
        ("/runs?agent_name=judge&range=7d", "Runs"), ("/runs/going%20on", "Facts"), ("/producers", "Producers"),
        ("/system", "State"),
    ]:  # fmt: skip
        page.goto(path)
        settled(page)
        shown = panel(page, name).locator(".body").inner_text()
        context.set_offline(True)
        page.clock.fast_forward(60_000)
        expect(panel(page, name)).to_have_class(re.compile("stale"))
        expect(page.locator(".lamp")).to_have_text("RunLake cannot be reached.")
        assert len(panel(page, name).locator(".body").inner_text()) >= len(shown) // 2, "what was shown stays"
        context.set_offline(False)
        page.clock.fast_forward(60_000)
        expect(panel(page, name)).not_to_have_class(re.compile("stale"))
        expect(page.locator(".lamp")).not_to_have_class(re.compile("bad"))


def test_a_dashboard_outlives_its_server(browser: Browser, tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.ingest():
        query, url = site.query("--http", f"127.0.0.1:{free_port()}")  # nobody else is given it meanwhile
        context = browser.new_context(base_url=url)
        context.set_default_timeout(DEADLINE_MS)
        page = context.new_page()
        with query:
            page.goto("/runs")
            expect(page.locator(".lamp")).to_have_text("live")
        expect(page.locator(".lamp")).to_have_text("reconnecting …")
        query, _ = site.query("--http", url.removeprefix("http://"))
        with query:
            api = Api(url)
            assert api.post("/api/v1/runs", new_run(agent_name="after all")).status == 201
            expect(page.locator("table.runs tbody tr")).to_contain_text("after all")
            expect(page.locator(".lamp")).to_have_text("live")
            api.close()
        context.close()
