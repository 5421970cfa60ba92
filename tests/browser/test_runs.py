"""The views of runs: the table, one run, two runs, commits, the books, SQL."""

from __future__ import annotations

import re

from playwright.sync_api import BrowserContext, Page, expect

from runlake_query.dashboard.paths import VIEWS
from support.api import Api
from support.browsing import new_run, panel


def test_the_table_shows_what_the_api_lists_and_pages_on(page: Page, api: Api) -> None:
    page.goto("/runs?range=7d&job_type=crawl")
    listed = api.ok("/api/v1/runs", job_type="crawl", limit=1000)
    rows = page.locator("table.runs tbody tr")
    expect(rows).to_have_count(listed["total"])
    expect(page.locator(".counted")).to_have_text(f"{listed['total']} of {listed['total']} runs")
    shown = [row.get_attribute("data-key") for row in rows.all()]
    assert shown == [run["event_id"] for run in listed["runs"]]


def test_more_runs_than_a_page_come_when_asked_for(page: Page, api: Api) -> None:
    runs = [new_run(agent_name="paged", run_id=f"paged {number}") for number in range(130)]
    assert api.post("/api/v1/runs/batch", {"runs": runs}).status == 201
    page.goto("/runs?agent_name=paged")
    rows = page.locator("table.runs tbody tr")
    expect(rows).to_have_count(100)
    page.get_by_role("button", name="Older runs").click()
    expect(rows).to_have_count(130)
    expect(page.get_by_role("button", name="Older runs")).to_be_hidden()


def test_rows_come_and_change_by_themselves_and_keep_the_focus(page: Page, api: Api) -> None:
    first = new_run(agent_name="moving")
    assert api.post("/api/v1/runs", first).status == 201
    page.goto("/runs?agent_name=moving")
    row = page.locator(f"tr[data-key='{first['event_id']}']")
    expect(row).to_contain_text("running")
    row.focus()
    assert (
        api.patch(f"/api/v1/runs/{first['event_id']}", {"status": "failure", "error_summary": "it broke"}).status == 200
    )
    expect(row).to_contain_text("it broke")
    assert api.post("/api/v1/runs", new_run(agent_name="moving")).status == 201
    expect(page.locator("table.runs tbody tr")).to_have_count(2)
    expect(row).to_be_focused()


def test_columns_are_chosen_and_are_the_url(page: Page) -> None:
    page.goto("/runs?range=7d")
    page.get_by_text("Columns", exact=True).first.click()
    page.get_by_label("Tokens in").check()
    expect(page.get_by_role("columnheader", name="Tokens in")).to_be_visible()
    page.get_by_label("Job", exact=True).uncheck()
    expect(page.get_by_role("columnheader", name="Job", exact=True)).to_have_count(0)
    page.reload()
    expect(page.get_by_role("columnheader", name="Tokens in")).to_be_visible()
    expect(page.get_by_role("columnheader", name="Job", exact=True)).to_have_count(0)


def test_a_run_shows_its_tree_in_time_its_events_and_its_changes(page: Page) -> None:
    page.goto("/runs/tree%20root")
    tree = panel(page, "Tree")
    expect(tree.locator(".lane:not(.axis)")).to_have_count(4)
    expect(tree.locator(".bar.critical")).to_have_count(4)  # one child after the other, and the parent waits
    tree.get_by_role("button", name="Children of tree root").click()
    expect(tree.locator(".lane:not(.axis)")).to_have_count(1)
    events = panel(page, "Events").locator("ol > li")
    expect(events).to_have_count(4)
    events.first.locator("summary").click()
    expect(events.first.locator("pre")).to_contain_text('"deep"')
    expect(panel(page, "Changes")).to_contain_text("commit.associated")
    expect(page.get_by_role("link", name="9fceb02d0a")).to_have_attribute("href", re.compile("/commits/9fceb02"))


def test_more_events_and_changes_than_a_page_come_when_asked_for(page: Page, api: Api) -> None:
    run = new_run(run_id="talkative")
    assert api.post("/api/v1/runs", run).status == 201
    for first in (0, 500, 1_000):
        told = [{"type": f"event {number}"} for number in range(first, first + 500)]
        assert api.post("/api/v1/runs/talkative/events", told[:120] if first == 1_000 else told).status == 201
    for number in range(101):
        assert api.patch(f"/api/v1/runs/{run['event_id']}", {"items_discovered": number}).status == 200
    page.goto("/runs/talkative")
    events = panel(page, "Events").locator("ol > li")
    expect(events).to_have_count(1_000)
    panel(page, "Events").get_by_role("button", name="More events").click()
    expect(events).to_have_count(1_120)
    expect(panel(page, "Events").get_by_role("button", name="More events")).to_be_hidden()
    assert api.post("/api/v1/runs/talkative/events", {"type": "the last one"}).status == 201
    expect(events).to_have_count(1_121)  # what was asked for stays while more comes
    changes = panel(page, "Changes").locator("ol > li")
    expect(changes).to_have_count(100)
    panel(page, "Changes").get_by_role("button", name="More changes").click()
    expect(changes).to_have_count(102)


def test_a_run_is_live_while_it_runs(page: Page, api: Api) -> None:
    run = new_run(run_id="watched")
    assert api.post("/api/v1/runs", run).status == 201
    page.goto("/runs/watched")
    expect(panel(page, "Events")).to_contain_text("None were told.")
    assert api.post("/api/v1/runs/watched/events", {"type": "page", "payload": {"url": "/"}}).status == 201
    expect(panel(page, "Events").locator("ol > li")).to_have_count(1)
    assert api.patch(f"/api/v1/runs/{run['event_id']}", {"status": "success"}).status == 200
    expect(page.locator(".run-head .status")).to_contain_text("success")


def test_an_error_is_told_with_its_traceback(page: Page) -> None:
    page.goto("/runs/history%203")
    expect(panel(page, "Error")).to_contain_text('File "crawl.py", line 7')


def test_an_unknown_run_is_said_to_be_unknown(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/runs/nobody")
    expect(panel(page, "Facts")).to_contain_text("Run not found: nobody")


def test_two_runs_are_compared(page: Page) -> None:
    page.goto("/runs/history%203")
    page.get_by_label("Another run").fill("history 0")
    page.get_by_role("button", name="Compare").click()
    fields = panel(page, "Fields that differ")
    expect(fields.get_by_role("row", name=re.compile("^status failure success"))).to_be_visible()
    expect(fields.get_by_role("row", name=re.compile("^job_type"))).to_be_visible()
    expect(panel(page, "What ran below")).to_contain_text("Nothing ran below either.")


def test_from_a_commit_to_its_runs(page: Page) -> None:
    page.goto("/commits?range=7d")
    page.get_by_role("link", name="9fceb02d0ae598e95dc970b74767f19372d61af8").click()
    expect(panel(page, "Commits")).to_contain_text("tree root")
    expect(panel(page, "Commits")).to_contain_text("tree child 2")


def test_the_books_and_the_system_are_shown(page: Page, api: Api) -> None:
    page.goto("/producers")
    producer = api.ok("/api/v1/producers")["producers"][0]
    expect(page.get_by_role("row", name=re.compile(producer["producer"]))).to_be_visible()
    page.get_by_role("link", name="Quarantine").click()
    expect(page.locator(".intro")).to_contain_text("Messages that were refused")
    page.get_by_role("link", name="System").click()
    expect(panel(page, "State")).to_contain_text("answers")
    expect(panel(page, "Metrics of this process")).to_contain_text("runlake_")


def test_sql_is_asked_shown_drawn_and_taken_along(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="SQL").click()
    page.get_by_role("button", name="Run").click()
    result = panel(page, "Result")
    expect(result).to_contain_text(re.compile(r"\d+ rows in"))
    expect(result.locator("canvas")).to_be_visible()
    expect(page).to_have_url(re.compile(r"sql=SELECT"))
    with page.expect_download() as table:
        result.get_by_role("button", name="CSV").click()
    assert table.value.path().read_text(encoding="utf-8").startswith("hour,runs,cost_usd\n")
    with page.expect_download() as png:
        result.get_by_role("button", name="PNG").click()
    assert png.value.path().read_bytes().startswith(b"\x89PNG")


def test_sql_that_is_refused_says_why(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/sql")
    page.get_by_label("Statement").fill("DROP TABLE runs")
    page.get_by_label("Statement").press("Control+Enter")
    expect(panel(page, "Result")).to_contain_text("sql:")


def test_every_path_of_the_dashboard_shows_a_view(page: Page) -> None:
    for path in VIEWS:
        if "{" in path:
            continue
        page.goto(path)
        expect(page.locator("main h1")).to_have_count(1)
        assert page.title().endswith("– RunLake")
