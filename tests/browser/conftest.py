"""A real browser before the two real processes. A machine without Chromium skips these, and says so.

Screenshots of every view are kept beside the tests' other temporary files, or in the folder that SCREENSHOTS names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from support.api import Api
from support.browsing import DEADLINE_MS, Seen, fill
from support.processes import Site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Playwright's event loop runs in this thread until the end: no test of another module may come before that."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    expect.set_options(timeout=DEADLINE_MS)
    with sync_playwright() as playwright:
        # Without a sandbox of its own: it may be root's, and shows nothing but our own pages.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("dashboard"))


@pytest.fixture(scope="session")
def service(site: Site) -> Iterator[str]:
    """The URL of a query process with a day of runs, and SQL."""
    with site.ingest():
        query, url = site.query(env={"RUNLAKE_SQL": "on"})
        with query:
            api = Api(url)
            fill(api)
            api.close()
            yield url
            failed = [line for line in query.log if line.get("event") == "request_failed"]
            assert failed == [], "\n".join(str(line) for line in failed)


@pytest.fixture
def api(service: str) -> Iterator[Api]:
    api = Api(service)
    yield api
    api.close()


@pytest.fixture
def context(browser: Browser, service: str) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=service, viewport={"width": 1280, "height": 800}, timezone_id="UTC")
    context.set_default_timeout(DEADLINE_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that must not complain: neither of errors, nor of what the content security policy blocks."""
    page = context.new_page()
    seen = Seen(page)
    yield page
    assert seen.complaints == []


@pytest.fixture(scope="session")
def shoot(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Page, str], None]:
    """Keeps what a page shows, by a name."""
    folder = Path(os.environ["SCREENSHOTS"]) if "SCREENSHOTS" in os.environ else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)

    def shoot(page: Page, name: str) -> None:
        path = folder / f"{name}.png"
        page.screenshot(path=path, animations="disabled")
        assert path.stat().st_size > 5_000, f"{name} shows something"

    return shoot
