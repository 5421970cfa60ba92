"""Charts: what a click, a marked span and a legend do, and what can be taken along of each."""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from support.api import Api
from support.browsing import Mark, marks, new_run, panel, settled, tile
from support.waiting import eventually

CHARTS = ["Runs", "Success rate", "Duration", "Tokens by model", "Cost by model"]


@pytest.fixture
def charts(page: Page, context: BrowserContext) -> Page:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/?range=24h")
    settled(page)
    return page


def copied(page: Page, begin: str) -> str:
    """What is copied, once it begins like this."""
    found: list[str] = []

    def begins() -> bool:
        found.append(page.evaluate("navigator.clipboard.readText()"))
        return found[-1].startswith(begin)

    eventually(begins)
    return found[-1]


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
        assert "/api/v1/rollups?" in copied(charts, "curl -s 'http://")
        chart.get_by_role("button", name="SQL").click()
        told = api.post("/api/v1/sql", {"sql": copied(charts, "SELECT")})
        assert told.status == 200, told.text
        assert told.json["rows"], name


@pytest.mark.parametrize("name", ["Success rate", "Duration"])
def test_a_click_on_a_point_of_time_shows_that_time(charts: Page, name: str) -> None:
    click(charts, marks(charts, name)[3])
    expect(charts).to_have_url(re.compile(r"from=.*&to="))
    expect(charts.get_by_label("Custom range")).to_have_class("chosen")
    expect(tile(charts, "Runs")).to_have_text(re.compile("^[1-9]$"))


@pytest.mark.parametrize(
    ("name", "wanted"), [("Runs", "status=success"), ("Tokens by model", "model="), ("Cost by model", "model=")]
)
def test_a_click_on_a_bar_filters_by_what_it_stands_for(charts: Page, name: str, wanted: str) -> None:
    click(charts, max(marks(charts, name), key=lambda bar: bar.height))
    expect(charts).to_have_url(re.compile(wanted))


def click(page: Page, mark: Mark) -> None:
    page.mouse.move(mark.x - 3, mark.y)
    page.mouse.move(mark.x, mark.y, steps=3)
    page.mouse.click(mark.x, mark.y)


def test_a_name_of_the_legend_filters_by_keyboard_too(charts: Page) -> None:
    panel(charts, "Runs").get_by_role("button", name="failure").focus()
    charts.keyboard.press("Enter")
    expect(charts).to_have_url(re.compile("status=failure"))
    expect(tile(charts, "Runs")).to_have_text("10")


def test_a_marked_span_is_zoomed_into_and_back_is_back(charts: Page) -> None:
    before = charts.url
    box = panel(charts, "Runs").locator("canvas").bounding_box()
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


def test_what_is_pointed_at_is_told_exactly(charts: Page) -> None:
    bars = {name: max(marks(charts, name), key=lambda bar: bar.height) for name in ("Runs", "Cost by model")}
    left = {name: panel(charts, name).locator("canvas").bounding_box() for name in ("Runs", "Duration")}
    assert left["Runs"] is not None
    assert left["Duration"] is not None
    beside = marks(charts, "Duration")[0]._replace(x=bars["Runs"].x - left["Runs"]["x"] + left["Duration"]["x"])
    told = {name: pointed_at(charts, name, mark) for name, mark in (bars | {"Duration": beside}).items()}
    assert told["Runs"]["title"] == told["Duration"]["title"], "bars and points of one time have the same place"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:00:00", told["Runs"]["title"])
    assert [line.split(":")[0] for line in told["Runs"]["lines"]] == ["success"]
    assert [line.split(":")[0] for line in told["Duration"]["lines"]] == ["p50", "p95", "p99"]
    assert all(re.search(r": \$\d", line) for line in told["Cost by model"]["lines"])


def pointed_at(page: Page, name: str, mark: Mark) -> dict[str, Any]:
    page.mouse.move(mark.x, mark.y)
    canvas = panel(page, name).locator("canvas")
    page.wait_for_function("(canvas) => Chart.getChart(canvas).tooltip.opacity > 0", arg=canvas.element_handle())
    told: dict[str, Any] = canvas.evaluate(
        """(canvas) => {
            const { title, body } = Chart.getChart(canvas).tooltip;
            return { title: title[0], lines: body.flatMap((part) => part.lines) };
        }"""
    )
    return told


@pytest.mark.parametrize(
    ("span", "zone", "wanted", "named"),
    [
        (
            ("2026-03-28T22:00Z", "2026-03-29T04:00Z"),
            "Europe/Berlin",
            6,
            ["23:00 Mar 28", "00:00 Mar 29", "01:00", "03:00", "04:00", "05:00", "06:00"],
        ),
        (("2026-10-24T22:00Z", "2026-10-26T23:00Z"), "Europe/Berlin", 4, ["Oct 25 2026", "Oct 26", "Oct 27"]),
        (("2026-01-01T00:00Z", "2026-01-01T03:00Z"), "Asia/Kolkata", 3, ["06:00 Jan 1", "07:00", "08:00"]),
        (("2026-11-02T00:00Z", "2026-11-30T00:00Z"), "UTC", 4, ["Nov 2 2026", "Nov 9", "Nov 16", "Nov 23", "Nov 30"]),
        (("2024-11-15T00:00Z", "2026-01-15T00:00Z"), "UTC", 3, ["Jan 2025", "Jul", "Jan 2026"]),
    ],
)
def test_the_axis_of_time_has_round_times_of_the_zone(
    page: Page, span: tuple[str, str], zone: str, wanted: int, named: list[str]
) -> None:
    page.goto("/quarantine")
    found = page.evaluate(
        """async ([[from, to], zone, wanted]) => {
            const app = document.querySelector("script[src$='/app.js']").src;
            const { timeTicks } = await import(new URL("timeaxis.js", app).href);
            return timeTicks(Date.parse(from), Date.parse(to), zone, wanted).map((tick) => tick.label.join(" "));
        }""",
        [span, zone, wanted],
    )
    assert found == named


def test_rows_of_any_order_are_drawn_in_the_order_of_time(page: Page) -> None:
    ask(
        page,
        "SELECT TIMESTAMPTZ '2026-01-01 00:00:00Z' + n * INTERVAL 1 HOUR AS t, n / 1e5 AS v "
        "FROM range(50) r(n) ORDER BY n DESC",
    )
    points, box = marks(page, "Result"), panel(page, "Result").locator("canvas").bounding_box()
    assert box is not None
    assert len(points) == 50
    assert sorted(points) == points
    assert box["x"] <= points[0].x < points[-1].x <= box["x"] + box["width"]
    assert pointed_at(page, "Result", points[22]) == {"title": "2026-01-01 22:00:00", "lines": ["v: 0.00022"]}


def test_a_day_is_told_as_that_day_in_every_zone(page: Page) -> None:
    ask(page, "SELECT DATE '2026-01-01' + n::INTEGER AS day, n AS v FROM range(3) r(n)", tz="America/New_York")
    assert pointed_at(page, "Result", marks(page, "Result")[1])["title"] == "2026-01-02 00:00:00"


def test_times_of_other_millennia_harm_nothing(page: Page) -> None:
    ask(
        page,
        "SELECT TIMESTAMPTZ '0001-01-01 00:00:00Z' AS t, 1 AS v UNION ALL SELECT TIMESTAMPTZ '2026-01-01 00:00:00Z', 2",
    )
    assert len(marks(page, "Result")) == 2


def ask(page: Page, statement: str, tz: str = "UTC") -> None:
    page.goto(f"/sql?{urlencode({'sql': statement, 'tz': tz})}")
    expect(panel(page, "Result").locator("canvas")).to_be_visible()


@pytest.mark.parametrize("length", [timedelta(seconds=18), timedelta(hours=30)])
def test_all_of_a_range_that_begins_within_a_bucket_is_seen(page: Page, api: Api, length: timedelta) -> None:
    begin = datetime(2026, 1, 2, 10, 0, 40, tzinfo=UTC)
    times = [begin + timedelta(seconds=1), begin + length - timedelta(seconds=1)]
    runs = [new_run(agent_name=f"within {length}", start_time=time.isoformat()) for time in times]
    assert api.post("/api/v1/runs/batch", {"runs": runs}).status == 201
    span = {"from": begin.isoformat(), "to": (begin + length).isoformat(), "agent_name": f"within {length}"}
    page.goto(f"/?{urlencode(span)}")
    settled(page)
    box = panel(page, "Runs").locator("canvas").bounding_box()
    assert box is not None
    bars = [bar for series in range(2) for bar in marks(page, "Runs", series) if bar.height > 0]
    assert bars
    assert all(box["x"] + 54 <= bar.x <= box["x"] + box["width"] for bar in bars)


def test_two_fingers_zoom_the_page_and_not_the_range(page: Page) -> None:
    page.goto("/?range=24h")
    settled(page)
    address, plot = page.url, panel(page, "Runs").locator(".plot")
    plot.evaluate(
        """(plot) => {
            const { left, top } = plot.getBoundingClientRect();
            for (const [type, pointer, x] of [["down", 1, 100], ["down", 2, 200], ["move", 1, 80], ["move", 2, 260],
                ["up", 1, 80], ["up", 2, 260]])
                plot.dispatchEvent(new PointerEvent(`pointer${type}`, {
                    pointerId: pointer, isPrimary: pointer === 1, bubbles: true, clientX: left + x, clientY: top + 40,
                }));
        }"""
    )
    assert page.url == address
    assert plot.evaluate("(plot) => getComputedStyle(plot).touchAction") == "pan-y pinch-zoom"
