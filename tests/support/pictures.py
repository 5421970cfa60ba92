"""The README's pictures: the demo is recorded by a RunLake of its own, and looked at.

python -m support.pictures FOLDER
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from support.api import Api
from support.browsing import DEADLINE_MS, panel, settled
from support.processes import Site

SPAN = timedelta(minutes=5)
"""For so long it is recorded, again and again: charts have a point for each minute."""
_SIZE = ViewportSize(width=1280, height=700)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=DEADLINE_MS)
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise SystemExit("Pictures need Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        site = Site(Path(temporary))
        with site.ingest():
            query, url = site.query()
            with query:
                begun = datetime.now(UTC)
                while datetime.now(UTC) < begun + SPAN:
                    record(url, site.ingest_endpoint, temporary)
                browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
                take(browser, url, begun, folder)
                browser.close()


def record(url: str, ingest: str, state: str) -> None:
    """The demo, once."""
    subprocess.run(
        [sys.executable, "-m", "runlake.cli", "demo", "--http", url.removeprefix("http://"), "--ingest", ingest,],
        check=True, env={**os.environ, "XDG_STATE_HOME": state},
    )  # fmt: skip


def take(browser: Browser, url: str, begun: datetime, folder: Path) -> None:
    """A picture of each view that the README shows."""
    margin = timedelta(minutes=1)
    span = {"from": (begun - margin).isoformat(), "to": (datetime.now(UTC) + margin).isoformat()}
    api = Api(url)
    root = api.ok("/api/v1/runs", job_type="walk", agent_name="ast-measurer", limit=1)["runs"][0]["event_id"]
    api.close()
    overview = look(browser, url, f"/?{urlencode({**span, 'tz': 'UTC'})}", "light")
    overview.screenshot(path=folder / "overview.png")
    runs = look(browser, url, f"/runs?{urlencode({'range': '1h', 'tz': 'UTC', 'order_by': '-duration_ms'})}", "dark")
    runs.screenshot(path=folder / "runs.png", clip={"x": 0, "y": 0, "width": 1280, "height": 460})
    page = look(browser, url, f"/runs/{root}?tz=UTC", "light")
    tree = panel(page, "Tree").bounding_box()
    assert tree is not None
    page.screenshot(
        path=folder / "tree.png",
        full_page=True,
        clip={"x": tree["x"], "y": tree["y"], "width": tree["width"], "height": min(tree["height"], 420)},
    )


def look(browser: Browser, url: str, path: str, scheme: str) -> Page:
    """A page that shows all it has to."""
    context = browser.new_context(base_url=url, viewport=_SIZE, timezone_id="UTC")
    page = context.new_page()
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
    page.goto(path)
    settled(page)
    return page


if __name__ == "__main__":
    main()
