"""Finding runs: order, text, suggestions; and what the page of one run and of two says of where they come from."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from support.api import Api
from support.browsing import new_run, panel, settled

SHA = "9fceb02d0ae598e95dc970b74767f19372d61af8"


def test_all_runs_that_match_are_sorted_by_a_column_not_the_page_alone(page: Page, api: Api) -> None:
    runs = [new_run(agent_name="sorted", duration_ms=number * 37 % 130, status="success") for number in range(130)]
    assert api.post("/api/v1/runs/batch", {"runs": runs}).status == 201
    page.goto("/runs?agent_name=sorted")
    rows = page.locator("table.runs tbody tr")
    expect(rows).to_have_count(100)
    page.get_by_role("button", name="Took").click()
    expect(page.get_by_role("columnheader", name="Took")).to_have_attribute("aria-sort", "descending")
    expect(rows.first).to_contain_text("129 ms")
    expect(page).to_have_url(re.compile("order_by=-duration_ms"))
    page.get_by_role("button", name="More runs").click()
    expect(rows).to_have_count(130)
    expect(rows.last).to_contain_text("0 ms")
    page.get_by_role("button", name="Took").click()
    expect(page.get_by_role("columnheader", name="Took")).to_have_attribute("aria-sort", "ascending")
    expect(rows.first).to_contain_text("0 ms")
    page.reload()
    expect(rows.first).to_contain_text("0 ms")
    page.get_by_role("button", name="Started").click()
    expect(page).not_to_have_url(re.compile("order_by"))


def test_text_in_names_and_summaries_finds_runs(page: Page, api: Api) -> None:
    assert api.post("/api/v1/runs", new_run(input_summary="Eine Nadel im Heuhaufen")).status == 201
    page.goto("/runs?range=7d")
    page.get_by_label("Text", exact=True).fill("nadel im heu")
    page.get_by_label("Text", exact=True).press("Enter")
    expect(page).to_have_url(re.compile(r"q=nadel\+im\+heu"))
    expect(page.locator(".counted")).to_have_text("1 of 1 runs")
    page.get_by_label("Remove the filter q nadel im heu").click()
    expect(page).not_to_have_url(re.compile("q="))


def test_suggestions_come_from_all_values_that_begin_so(page: Page, api: Api) -> None:
    for first in (0, 60):
        runs = [new_run(host=f"host-{number:03}") for number in range(first, first + 60)]
        assert api.post("/api/v1/runs/batch", {"runs": runs}).status == 201
    page.goto("/runs?range=24h")
    page.get_by_label("Field").select_option("host")
    expect(page.locator("#values option")).to_have_count(50)
    page.get_by_label("Value").press_sequentially("HOST-11")
    expect(page.locator("#values option")).to_have_count(10)
    expect(page.locator("#values option").last).to_have_attribute("value", "host-119")


@pytest.mark.parametrize(
    ("repository", "wanted"),
    [
        ("git@github.com:owner/name.git", f"https://github.com/owner/name/commit/{SHA}"),
        ("https://gitlab.example.org/group/sub/name", f"https://gitlab.example.org/group/sub/name/-/commit/{SHA}"),
        ("ssh://git@bitbucket.org/owner/name.git", f"https://bitbucket.org/owner/name/commits/{SHA}"),
        ("https://git.example.org/name.git", None),
        ("javascript:alert(1)//github.com/x/y", None),
        (None, None),
    ],
)
def test_a_commit_leads_to_its_runs_and_to_where_it_is_hosted(
    page: Page, api: Api, repository: str | None, wanted: str | None
) -> None:
    run = new_run(git_repo=repository, commit_hash=SHA, commit_source="ci", agent_name="hosted")
    assert api.post("/api/v1/runs", run).status == 201
    page.goto(f"/runs/{run['event_id']}")
    expect(page.get_by_role("link", name="⎇ 9fceb02d0a")).to_have_attribute("href", f"/commits/{SHA}")
    outside = page.locator(".run-head a[target=_blank]")
    expect(outside).to_have_count(0 if wanted is None else 1)
    if wanted is not None:
        expect(outside).to_have_attribute("href", wanted)


def test_a_run_shows_its_metrics_and_its_context(page: Page, api: Api) -> None:
    run = new_run(metrics_json={"pages": 12345, "deep": {"x": [1, 2]}}, context_json={"region": "eu-1"})
    assert api.post("/api/v1/runs", run).status == 201
    page.goto(f"/runs/{run['event_id']}")
    maps = panel(page, "Metrics and context")
    expect(maps).to_contain_text("12,345")
    expect(maps.get_by_title("12345")).to_be_visible()
    expect(maps).to_contain_text("eu-1")
    maps.locator("summary").click()
    expect(maps.locator("pre")).to_contain_text('"x"')


def test_the_critical_path_is_what_the_end_waited_for(page: Page, api: Api) -> None:
    def part(name: str, parent: str | None, begin: int, end: int) -> dict[str, Any]:
        start, finish = (f"2026-01-02T10:{second // 60:02}:{second % 60:02}Z" for second in (begin, end))
        return new_run(run_id=name, item_name=name, parent_run_id=parent, start_time=start, end_time=finish)

    runs = [
        part("root", None, 0, 60), part("first", "root", 1, 30), part("beside first", "root", 2, 20),
        part("last", "root", 31, 55), part("below last", "last", 32, 50), part("beside below", "last", 33, 34),
    ]  # fmt: skip
    assert api.post("/api/v1/runs/batch", {"runs": runs}).status == 201
    page.goto("/runs/root")
    tree = panel(page, "Tree")
    lanes = tree.locator(".lane:not(.axis)")
    expect(lanes).to_have_count(6)
    expect(tree.locator(".tick")).to_have_text(["0", "10 s", "20 s", "30 s", "40 s", "50 s", "60 s"])
    tree.get_by_role("button", name="Critical path (4 runs)").click()
    expect(lanes).to_have_count(4)
    expect(tree.locator(".item")).to_have_text(["root", "first", "last", "below last"])
    tree.get_by_role("button", name="Critical path").click()
    expect(lanes).to_have_count(6)
    tree.get_by_role("button", name="Fold all", exact=True).click()
    expect(lanes).to_have_count(4)
    tree.get_by_role("button", name="Children of last").click()
    expect(lanes).to_have_count(6)
    expect(tree.get_by_role("button", name="Children of last")).to_be_focused()


def test_two_trees_are_compared_run_by_run(page: Page, api: Api) -> None:
    for side, files in (("left", {"a": 100, "b": 1000, "gone": 5}), ("right", {"a": 101, "b": 9000, "new": 5})):
        assert api.post("/api/v1/runs", new_run(run_id=f"{side} root", agent_name="differ")).status == 201
        children = [
            new_run(parent_run_id=f"{side} root", item_name=name, agent_name="differ", duration_ms=ms, status="success")
            for name, ms in files.items()
        ]
        assert api.post("/api/v1/runs/batch", {"runs": children}).status == 201
    page.goto("/compare?a=left%20root&b=right%20root")
    below = panel(page, "What ran below")
    expect(below).to_contain_text("4 pairs, of which 3 differ")
    expect(below.get_by_role("row", name=re.compile(r"job b slower .*1\.00 s 9\.00 s"))).to_be_visible()
    expect(below.get_by_role("row", name=re.compile("job gone only left"))).to_be_visible()
    expect(below.get_by_role("row", name=re.compile("job new only right"))).to_be_visible()
    below.get_by_label("those that do not differ, too").check()
    expect(below.get_by_role("row", name=re.compile("job a "))).to_be_visible()


def test_the_system_tells_what_needs_somebody_and_of_what_files_the_lake_is(page: Page, api: Api) -> None:
    promise = new_run(heartbeat_until="2026-01-01T00:00:00Z", start_time="2025-12-31T23:00:00Z")
    assert api.post("/api/v1/runs", promise).status == 201
    page.goto("/system")
    expect(panel(page, "Alerts").get_by_role("link", name=re.compile("sign of life"))).to_be_visible()
    expect(panel(page, "Rates")).to_contain_text(re.compile(r"HTTP requests\s*\d"))
    expect(panel(page, "State")).to_contain_text("answers")
    files = panel(page, "Files of the lake")
    expect(files.get_by_role("row", name=re.compile(r"^run_changes \d+ [\d.]+ [KM]?i?B"))).to_be_visible()
    panel(page, "Alerts").get_by_role("link", name=re.compile("sign of life")).click()
    settled(page)
    expect(page).to_have_url(re.compile("stale=true"))
