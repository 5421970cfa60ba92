"""For everyone: assistive technology, small screens, keyboards, and those who have to sign in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from support.api import Api
from support.browsing import DEADLINE_MS, VIEWS, Seen, overflowing, panel, settled, tile
from support.processes import Site

TOKEN = "a-token-of-the-tests-long-enough"


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious_in_light_nor_in_dark(
    page: Page, view: str, shoot: Callable[[Page, str], None]
) -> None:
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.goto(VIEWS[view])
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
        settled(page)
        shoot(page, f"{view}-{scheme}")
        found = Axe().run(page).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in serious] == []


def test_every_view_fits_a_phone(page: Page, shoot: Callable[[Page, str], None]) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for view, path in VIEWS.items():
        page.goto(path)
        settled(page)
        shoot(page, f"{view}-phone")
        assert overflowing(page) == [], view


def test_the_table_of_runs_is_walked_by_keys(page: Page) -> None:
    page.goto("/runs?range=7d&agent_name=judge")
    rows = page.locator("table.runs tbody tr")
    expect(rows).to_have_count(20)
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    expect(rows.nth(2)).to_be_focused()
    page.keyboard.press("k")
    expect(rows.nth(1)).to_be_focused()
    wanted = rows.nth(1).get_by_role("link").first.inner_text()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(wanted)


def test_the_slash_key_goes_to_a_run(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("/")
    page.keyboard.type("tree root")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/runs/tree%20root$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("tree root")


def test_with_a_token_it_asks_once_and_the_stream_works_too(browser: Browser, tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.ingest():
        query, url = site.query(env={"RUNLAKE_TOKEN": TOKEN})
        with query:
            api = Api(url)
            assert api.get("/api/v1/runs").status == 401
            context = browser.new_context(base_url=url)
            context.set_default_timeout(DEADLINE_MS)
            page = context.new_page()
            Seen(page)
            page.goto("/")
            page.get_by_label("Token").fill("wrong")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert")).to_contain_text("not the right one")
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Sign in").click()
            expect(page.locator(".lamp")).to_have_text("live")
            expect(page.get_by_role("link", name="SQL")).to_have_count(0)
            assert page.evaluate("document.cookie") == ""
            page.reload()
            expect(tile(page, "Runs")).to_have_text("0")
            expect(panel(page, "Runs")).to_contain_text("No runs in this range.")
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_label("Token")).to_be_visible()
            page.reload()
            expect(page.get_by_label("Token")).to_be_visible()
            context.close()
            api.close()
