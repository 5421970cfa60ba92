"""docs/operations.md names every log event and every metric of the processes, and nothing that is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from support.api import Api
from support.processes import Site

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
LEVELS = frozenset(("debug", "info", "warning", "error"))


def is_log_method(node: ast.expr) -> bool:
    """`log.info`, `self._log.info`, or one of several of these."""
    if isinstance(node, ast.IfExp):
        return is_log_method(node.body) and is_log_method(node.orelse)
    if not isinstance(node, ast.Attribute) or node.attr not in LEVELS:
        return False
    owner = node.value
    name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    return name in ("log", "_log")


def texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    else:
        assert isinstance(node, ast.Constant) and isinstance(node.value, str), ast.dump(node)
        yield node.value


def levels(node: ast.expr) -> set[str]:
    if isinstance(node, ast.IfExp):
        return levels(node.body) | levels(node.orelse)
    assert isinstance(node, ast.Attribute)
    return {node.attr}


def logged_events() -> dict[str, set[str]]:
    """What the code logs, and at which levels, by its syntax: an event is always a constant."""
    found: dict[str, set[str]] = {}
    for root in ("ingest", "query", "shared"):
        for path in (ROOT / root).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and is_log_method(node.func):
                    for event in texts(node.args[0]):
                        found.setdefault(event, set()).update(levels(node.func))
    return found


def section(title: str) -> str:
    """A section of the page, to the next of the same level."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> dict[str, set[str]]:
    """For each name in a first cell of the tables, the words of the second cells beside it."""
    found: dict[str, set[str]] = {}
    for first, second in re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", text, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", first):
            found.setdefault(name, set()).update(re.findall(r"\w+", second))
    return found


def test_every_log_event_is_on_the_page_with_its_levels_and_no_other() -> None:
    events = logged_events()
    assert {"ready", "lake_not_followed", "feed_silent", "request_failed", "died"} <= set(events)
    assert rows(section("Log events")) == events


def test_every_metric_is_on_the_page_and_no_other(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.ingest() as worker:
        query, url = site.query()
        with query:
            pages = []
            for address in (f"http://{worker.wait_for('ready')['metrics']}", url):
                with closing(Api(address)) as api:
                    pages.append(api.get("/metrics").text)
            assert query.terminate() == 0
        assert worker.terminate() == 0
    told = {
        name.removesuffix("_total")
        for page in pages
        for name in re.findall(r"^# TYPE (\w+) ", page, re.MULTILINE)
        if not name.endswith("_created")
    }
    assert {"runlake_ingest_accepted", "runlake_http_requests"} <= told
    assert set(rows(section("Metrics of ingest") + section("Metrics of query"))) == told


def test_every_metric_that_an_alert_names_is_one() -> None:
    named = set(re.findall(r"runlake_\w+", section("Alerts")))
    known = set(rows(section("Metrics of ingest") + section("Metrics of query")))
    assert {name.removesuffix("_total") for name in named} <= known
