"""Whatever agents write is shown as what it is: nothing of it is executed, and nothing is wider than its place."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

import msgspec
import pytest
import zmq
from playwright.sync_api import Page, expect

from runlake.fields import RUN_FIELDS, Role
from support.api import Api
from support.browsing import new_run, overflowing, panel, settled
from support.processes import Site
from support.waiting import eventually

PROBE = "window.executed = true"
HOSTILE = {
    "markup": f"\"'><script>{PROBE}</script><img src=x onerror='{PROBE}'><a href='javascript:{PROBE}'>x</a></td>",
    "html": f"<b onclick='{PROBE}'>bold</b><br><a href='https://evil.example'>here</a> %{{x}} $x$ &lt;",
    "direction": "\u202eDROP \u2067TABLE\u2066 \u05e2\u05d1\u05e8 \u0627\u0644\u0639\u0631\u202c",
    "long": "x" * 512,
    "words": "very long " * 50,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈 é́́́́́́́́́ ﷽ 𒐫 \ufeff",
    "control": "a\tb\nc\rd\x01\x08\x1b[31m\x7f\x85\u2028e",
    "template": f"${{{PROBE}}} {{{{constructor.constructor('{PROBE}')()}}}} `%s` ../../.. ?a=b&c#d/%2e%2e%00",
}
_KEPT = ("status", "commit_hash", "commit_source", "insight_id", "trace_id", "span_id")
_COLUMNS = (
    "status,start_time,agent_name,job_type,run_id,duration_ms,product,environment,host,model,input_tokens,"
    "output_tokens,cost_usd,items_succeeded,items_failed,commit_hash,parent_run_id,error_summary"
)
_STRANGE_LINKS = """() => [...document.querySelectorAll("main a[href]")]
    .filter((link) => link.origin !== location.origin).map((link) => link.outerHTML)"""


def hostile_run(kind: str, group: str) -> dict[str, Any]:
    """A run with hostile text in every field that takes one, from before what other tests look at."""
    text = HOSTILE[kind]
    short = text[:250]
    start = datetime.now(UTC) - timedelta(days=20)
    texts = {
        field.name: short
        for field in RUN_FIELDS
        if field.sql_type == "VARCHAR" and field.name not in _KEPT and field.role is not Role.SYSTEM
    }
    told = {short: text, "deep": {short: [text]}, "number": 1e300}
    times = {"start_time": start.isoformat(), "end_time": (start + timedelta(seconds=3)).isoformat()}
    numbers = {"input_tokens": 5, "output_tokens": 7, "cost_usd": 0.5}
    plain = {"status": "failure", "commit_hash": "abcdef0123", "commit_source": "ci", "insight_id": group}
    return new_run(**texts, **times, **numbers, **plain, metrics_json=told, context_json=told)


@pytest.fixture
def hostile(api: Api) -> tuple[str, list[dict[str, Any]]]:
    """Runs of all kinds, and the insight_id by which they are found."""
    group = f"hostile {uuid4()}"
    runs = [hostile_run(kind, group) for kind in HOSTILE]
    for run, text in zip(runs, HOSTILE.values(), strict=True):
        wrote = api.post("/api/v1/runs", run)
        assert wrote.status == 201, wrote.text
        event = {"type": text[:250], "payload": {text[:250]: text, "more": {text[:250]: text}}}
        assert api.post(f"/api/v1/runs/{run['event_id']}/events", event).status == 201
    return group, runs


def test_hostile_text_in_every_field_is_text_in_every_view(
    page: Page, hostile: tuple[str, list[dict[str, Any]]]
) -> None:
    group, runs = hostile
    page.on("dialog", lambda dialog: pytest.fail(f"{dialog.message} was said"))
    asked = urlencode({"insight_id": group, "range": "30d", "columns": _COLUMNS})
    views = [f"/?{asked}", f"/runs?{asked}", "/commits/abcdef0123", f"/compare?a={runs[0]['event_id']}&b=tree%20root"]
    views += [f"/runs/{quote(run['run_id'], safe='')}" for run in runs]
    views += [f"/?range=30d&{urlencode({'agent_name': run['agent_name']})}" for run in runs[:2]]
    views += [f"/sql?{urlencode({'sql': sql_of(runs[0])})}"]
    for view in views:
        page.goto(view)
        settled(page)
        for summary in page.locator("main details:not(.popup) > summary").all():
            summary.click()
        assert overflowing(page) == [], view
        assert page.evaluate("window.executed") is None, view
        assert page.locator("main script, main img, main [onclick], main [onerror]").count() == 0
        assert page.evaluate(_STRANGE_LINKS) == [], view
    page.goto(views[0])
    settled(page)
    agents = panel(page, "Top agents").locator(".body").get_by_role("link")
    expect(agents).to_have_count(len(HOSTILE))
    agents.filter(has_text="bold").click()
    expect(page).to_have_url(re.compile("agent_name="))
    expect(agents).to_have_count(1)
    settled(page)
    cost = panel(page, "Cost by model")
    expect(cost).to_have_accessible_name("Cost by model")
    named = cost.locator("canvas").evaluate("(canvas) => Chart.getChart(canvas).data.datasets.map((one) => one.label)")
    assert named
    assert not any(re.search("[\x00-\x1f\u202a-\u202e\u2066-\u2069]", name) for name in named)
    page.set_viewport_size({"width": 390, "height": 800})
    settled(page)
    assert overflowing(page) == []


def sql_of(run: dict[str, Any]) -> str:
    """A question whose answer has the text as the name of a column, and as values."""
    name = run["agent_name"].replace('"', '""')
    return f"SELECT start_time, cost_usd AS \"{name}\", * FROM runs WHERE event_id = '{run['event_id']}'"


def test_what_was_refused_is_shown_as_text(page: Page, api: Api, site: Site) -> None:
    markup = HOSTILE["markup"]
    message = {"kind": "run.started", "event_id": markup, "run_id": markup, markup: markup}
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.connect(site.push_endpoint)
        socket.send(msgspec.msgpack.encode([message, {"kind": HOSTILE["direction"]}, HOSTILE["long"]] * 40))
        eventually(lambda: api.ok("/api/v1/quarantine")["total"] >= 120)
    page.goto("/quarantine")
    settled(page)
    expect(panel(page, "Quarantine").locator("tbody tr")).to_have_count(100)
    page.get_by_role("button", name="Older ones").click()
    expect(page.get_by_role("button", name="Older ones")).to_have_count(0)
    assert panel(page, "Quarantine").locator("tbody tr").count() >= 120
    for summary in page.locator("main details > summary").all():
        summary.click()
    expect(panel(page, "Quarantine").locator("pre").first).to_be_visible()
    assert overflowing(page) == []
    assert page.evaluate("window.executed") is None
    page.goto("/producers")
    settled(page)
    assert overflowing(page) == []
