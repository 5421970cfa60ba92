"""The overview, seen as a person sees it."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from support.api import Api
from support.browsing import Seen, marks, new_run, panel, settled, tile
from support.waiting import eventually


def test_its_numbers_are_those_of_the_api(page: Page, api: Api) -> None:
    page.goto("/?range=7d")
    week = (datetime.now(UTC) - timedelta(days=7)).isoformat()
    totals = api.ok("/api/v1/rollups", measures="runs,success,failure,timeout", start_time_from=week)["totals"]
    expect(tile(page, "Runs")).to_have_text(f"{totals['runs']:,}")
    expect(tile(page, "Failed")).to_have_text(f"{totals['failure'] + totals['timeout']:,}")
    settled(page)
    assert marks(page, "Runs")


def test_a_new_run_appears_by_itself(page: Page, api: Api) -> None:
    page.goto("/?agent_name=live-agent")
    expect(tile(page, "Runs")).to_have_text("0")
    expect(panel(page, "Runs")).to_contain_text("No runs in this range.")
    assert api.post("/api/v1/runs", new_run(agent_name="live-agent")).status == 201
    expect(tile(page, "Runs")).to_have_text("1")
    expect(tile(page, "Running")).to_have_text("1")


def test_a_filter_is_the_url_and_can_be_taken_back(page: Page) -> None:
    page.goto("/?range=7d")
    page.get_by_role("link", name="judge", exact=True).click()
    expect(page).to_have_url(re.compile("agent_name=judge"))
    expect(tile(page, "Runs")).to_have_text("20")
    page.get_by_label("Remove the filter agent_name judge").click()
    expect(page).not_to_have_url(re.compile("agent_name=judge"))
    page.go_back()
    expect(tile(page, "Runs")).to_have_text("20")


def test_a_filter_is_added_by_name_with_suggestions_of_what_there_is(page: Page) -> None:
    page.goto("/?range=7d&product=atlas")
    page.get_by_label("Field").select_option("model")
    expect(page.locator("#values option")).to_have_count(2)
    page.get_by_label("Value").fill("small-1")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(tile(page, "Runs")).to_have_text("15")


def test_the_range_and_the_zone_are_the_url(page: Page, api: Api) -> None:
    page.goto("/")
    page.get_by_role("button", name="7d", exact=True).click()
    expect(page).to_have_url(re.compile("range=7d"))
    page.get_by_label("Time zone").fill("Asia/Kolkata")
    page.get_by_label("Time zone").press("Enter")
    expect(page).to_have_url(re.compile("tz=Asia%2FKolkata"))
    expect(page.get_by_role("button", name="7d", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(tile(page, "Runs")).not_to_have_text("0")


def test_what_is_shown_can_be_taken_along(page: Page, context: BrowserContext) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/?range=7d")
    runs = panel(page, "Runs")
    settled(page)
    assert marks(page, "Runs")
    with page.expect_download() as png:
        runs.get_by_role("button", name="PNG").click()
    assert png.value.path().read_bytes().startswith(b"\x89PNG")
    with page.expect_download() as table:
        panel(page, "Top agents").get_by_role("link", name="CSV").click()
    rows = list(csv.DictReader(table.value.path().read_text(encoding="utf-8").splitlines()))
    assert {"crawler", "writer", "judge"} <= {row["agent_name"] for row in rows}
    runs.get_by_role("button", name="curl").click()
    eventually(lambda: "/api/v1/rollups?bucket=hour" in page.evaluate("navigator.clipboard.readText()"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_preferred_colours_and_can_be_switched(context: BrowserContext, page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto("/")

    def is_dark() -> bool:
        colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) < 200

    assert is_dark() == (scheme == "dark")
    page.get_by_label("Light or dark").click()
    assert is_dark() != (scheme == "dark")
    page.reload()
    assert is_dark() != (scheme == "dark")


def test_charts_change_their_colours_with_the_page(page: Page) -> None:
    drawn_in = """(canvas) => [
        Chart.getChart(canvas).options.scales.x.grid.color,
        getComputedStyle(document.documentElement).getPropertyValue("--line").trim(),
    ]"""
    page.emulate_media(color_scheme="light")
    page.goto("/")
    settled(page)
    canvas = panel(page, "Runs").locator("canvas")
    lines = set()
    for change in (None, "system", "button"):
        if change == "system":
            page.emulate_media(color_scheme="dark")
        elif change == "button":
            page.get_by_label("Light or dark").click()
        eventually(lambda: len(set(canvas.evaluate(drawn_in))) == 1)
        lines.add(canvas.evaluate(drawn_in)[0])
    assert len(lines) == 2


def test_a_server_that_is_gone_is_said_and_what_was_shown_stays(context: BrowserContext) -> None:
    page = context.new_page()
    Seen(page)
    page.goto("/?range=7d")
    expect(tile(page, "Runs")).not_to_have_text("0")
    shown = tile(page, "Runs").inner_text()
    context.set_offline(True)
    page.get_by_role("button", name="24h", exact=True).click()
    expect(page.locator(".lamp")).to_have_text("RunLake cannot be reached.")
    expect(panel(page, "Runs")).to_have_class(re.compile("stale"))
    assert tile(page, "Runs").inner_text() == shown
    context.set_offline(False)
    page.get_by_role("button", name="7d", exact=True).click()
    expect(panel(page, "Runs")).not_to_have_class(re.compile("stale"))
