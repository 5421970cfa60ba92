"""Charts: what a click, a marked span and a legend do, and what can be taken along of each."""

from __future__ import annotations

import csv
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Locator, Page, expect

from support.api import Api
from support.browsing import panel, settled, tile

CHARTS = ["Runs", "Success rate", "Duration", "Tokens by model", "Cost by model"]


@pytest.fixture
def charts(page: Page, context: BrowserContext) -> Page:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/?range=24h")
    settled(page)
    return page


def clipboard(page: Page) -> str:
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def test_every_chart_is_told_as_a_picture_as_rows_as_sql_and_as_a_command(charts: Page, api: Api) -> None:
    for name in CHARTS:
        chart = panel(charts, name)
        with charts.expect_download() as png:
            chart.get_by_role("button", name="PNG").click()
        assert png.value.path().read_bytes().startswith(b"\x89PNG"), name
        with charts.expect_download() as table:
            chart.get_by_role("link", name="CSV").click()
        rows = list(csv.DictReader(table.value.path().read_text(encoding="utf-8").splitlines()))
        assert "bucket" in rows[0], name
        chart.get_by_role("button", name="curl").click()
        expect(charts.locator("#toast")).to_have_text("Copied")
        assert "curl -s 'http://" in clipboard(charts)
        assert "/api/v1/rollups?" in clipboard(charts)
        chart.get_by_role("button", name="SQL").click()
        charts.wait_for_function("() => navigator.clipboard.readText().then((text) => text.startsWith('SELECT'))")
        told = api.post("/api/v1/sql", {"sql": clipboard(charts)})
        assert told.status == 200, told.text
        assert told.json["rows"], name


@pytest.mark.parametrize("name", ["Success rate", "Duration"])
def test_a_click_on_a_point_of_time_shows_that_time(charts: Page, name: str) -> None:
    points = panel(charts, name).locator("g.trace .points path")
    expect(points.first).to_be_attached()
    click(charts, points.nth(3))
    expect(charts).to_have_url(re.compile(r"from=.*&to="))
    expect(charts.get_by_label("Custom range")).to_have_class("chosen")
    expect(tile(charts, "Runs")).to_have_text(re.compile("^[1-9]$"))


@pytest.mark.parametrize(
    ("name", "wanted"), [("Runs", "status=success"), ("Tokens by model", "model="), ("Cost by model", "model=")]
)
def test_a_click_on_a_bar_filters_by_what_it_stands_for(charts: Page, name: str, wanted: str) -> None:
    bar = panel(charts, name).locator("g.trace.bars").first.locator(".point path")
    tallest = max(bar.all(), key=lambda one: (one.bounding_box() or {"height": 0})["height"])
    click(charts, tallest)
    expect(charts).to_have_url(re.compile(wanted))


def click(page: Page, mark: Locator) -> None:
    """Plotly takes clicks on a layer above all marks."""
    box = mark.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y, steps=3)
    page.mouse.click(x, y)


def test_a_name_of_the_legend_filters_by_keyboard_too(charts: Page) -> None:
    panel(charts, "Runs").get_by_role("button", name="failure").focus()
    charts.keyboard.press("Enter")
    expect(charts).to_have_url(re.compile("status=failure"))
    expect(tile(charts, "Runs")).to_have_text("10")


def test_a_marked_span_is_zoomed_into_and_back_is_back(charts: Page) -> None:
    before = charts.url
    plot = panel(charts, "Runs").locator(".nsewdrag").first
    box = plot.bounding_box()
    assert box is not None
    y = box["y"] + 20
    charts.mouse.move(box["x"] + box["width"] * 0.5, y)
    charts.mouse.down()
    charts.mouse.move(box["x"] + box["width"] * 0.8, y, steps=5)
    charts.mouse.up()
    expect(charts).to_have_url(re.compile(r"from=.*&to="))
    expect(tile(charts, "Runs")).to_have_text(re.compile("^([5-9]|[123][0-9])$"))  # of more than sixty in a day
    serious = [one for one in Axe().run(charts).response["violations"] if one["impact"] in ("serious", "critical")]
    assert serious == []
    charts.go_back()
    expect(charts).to_have_url(before)
    expect(tile(charts, "Runs")).not_to_have_text(re.compile("^[1-4]?[0-9]$"))


def test_the_range_is_moved_and_widened_by_buttons(page: Page) -> None:
    page.goto("/?from=2026-01-02T00:00:00Z&to=2026-01-03T00:00:00Z")
    page.get_by_role("button", name="Zoom out").click()
    expect(page).to_have_url(re.compile("from=2026-01-01T12%3A00%3A00Z&to=2026-01-03T12%3A00%3A00Z"))
    page.get_by_role("button", name="Earlier").click()
    expect(page).to_have_url(re.compile("from=2025-12-30T12%3A00%3A00Z&to=2026-01-01T12%3A00%3A00Z"))
    page.get_by_role("button", name="Later").click()
    expect(page).to_have_url(re.compile("from=2026-01-01T12%3A00%3A00Z&to=2026-01-03T12%3A00%3A00Z"))
