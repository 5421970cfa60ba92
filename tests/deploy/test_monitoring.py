"""What Prometheus and Grafana are given: it can be read, and it asks for what is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from support.api import Api
from support.emitting import event
from support.processes import Site
from support.producer import Producer

_ROOT = Path(__file__).parents[2]
_DEPLOY = _ROOT / "deploy"
_DASHBOARD: dict[str, Any] = json.loads((_DEPLOY / "grafana/dashboards/runlake.json").read_text())
_RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((_DEPLOY / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
_PANELS: list[dict[str, Any]] = [panel for panel in _DASHBOARD["panels"] if panel["type"] != "row"]
_METRIC = re.compile(r"\brunlake_\w+")
_JOB = re.compile(r'job="([^"]+)"')
_PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=str(_ROOT / ".cache/prometheus/usr/bin"))
_needs_promtool = pytest.mark.skipif(_PROMTOOL is None, reason="needs promtool, of Debian's package prometheus")


def _expressions() -> list[str]:
    return [rule["expr"] for rule in _RULES] + [target["expr"] for panel in _PANELS for target in panel["targets"]]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """The names of all samples of both processes' pages, once something has happened."""
    site = Site(tmp_path_factory.mktemp("live"))
    with site.ingest() as worker, Producer(site.ingest_endpoint) as producer:
        query, url = site.query()
        with query:
            producer.deliver([event(1)])
            producer.flush()
            found: set[str] = set()
            for address in (f"http://{worker.wait_for('ready')['metrics']}", url):
                api = Api(address)
                api.get("/health")
                families = text_string_to_metric_families(api.get("/metrics").text)
                found |= {sample.name for family in families for sample in family.samples}
                api.close()
    yield found


def test_every_metric_of_the_dashboard_and_the_alerts_is_on_a_live_page(samples: set[str]) -> None:
    asked = {name for expression in _expressions() for name in _METRIC.findall(expression)}
    assert len(asked) > 25
    assert asked - samples == set()


def test_every_job_that_is_asked_for_is_scraped() -> None:
    scraped = {job["job_name"] for job in yaml.safe_load((_DEPLOY / "prometheus.yml").read_text())["scrape_configs"]}
    asked = {job for expression in _expressions() for job in _JOB.findall(expression)}
    assert asked == scraped


def test_an_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    assert len({rule["alert"] for rule in _RULES}) == len(_RULES) >= 10
    for rule in _RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert len(rule["annotations"]["summary"]) > 20


def test_the_dashboard_shows_each_panel_in_a_place_of_its_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in _DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in _DASHBOARD["panels"]}) == len(_DASHBOARD["panels"])


def test_the_dashboard_asks_the_source_that_is_provisioned() -> None:
    provisioning = _DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    asked = {panel["datasource"]["uid"] for panel in _PANELS}
    asked |= {target["datasource"]["uid"] for panel in _PANELS for target in panel["targets"]}
    assert asked == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards/runlake.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/runlake/dashboards"


def _promtool(*arguments: str | Path) -> str:
    assert _PROMTOOL is not None
    done = subprocess.run([_PROMTOOL, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@_needs_promtool
def test_prometheus_reads_its_settings_and_every_rule() -> None:
    assert f"{len(_RULES)} rules found" in _promtool("check", "config", _DEPLOY / "prometheus.yml")


@_needs_promtool
def test_prometheus_reads_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    expressions = [target["expr"].replace("$__rate_interval", "1m") for p in _PANELS for target in p["targets"]]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(expressions)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in _promtool("check", "rules", file)


_CASES = {
    "RunLakeIngestDown": ['up{job="runlake-ingest"}', "0x20", "1x20"],
    "RunLakeQueryDown": ['up{job="runlake-query"}', "0x20", "1x20"],
    "RunLakeJournalLarge": ["runlake_ingest_journal_bytes", "2000000000x20", "1000000x20"],
    "RunLakeIngestPaused": ["runlake_ingest_pauses_total", "0x15 1x5", "3x20"],
    "RunLakeMessagesRefused": ["runlake_ingest_rejected_total", "7x15 9x5", "7x20"],
    "RunLakeMaintenanceFailing": ["runlake_ingest_maintenance_failing", "1x40", "0x40"],
    "RunLakeQueryBehind": ["runlake_query_lag_seconds", "60x20", "1x20"],
    "RunLakeQueryNotFollowing": ["runlake_query_following", "0x20", "1x20"],
    "RunLakeIngestUnreachable": ["runlake_query_ingest_connected", "0x20", "1x20"],
    "RunLakeFeedSilent": ['runlake_query_feed_heard{worker="w"}', "0x20", "1x20"],
    "RunLakeServerErrors": ['runlake_http_requests_total{status="500"}', "0+1x20", "5x20"],
}
"""What each alert watches, a course at whose end it is on, and one in which it never is."""


@_needs_promtool
def test_alerts_go_off_when_they_should_and_only_then(tmp_path: Path) -> None:
    tests = []
    for alert, (series, bad, good) in _CASES.items():
        minutes = 40 if alert == "RunLakeMaintenanceFailing" else 19
        for values, expected in ((bad, 1), (good, 0)):
            count = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)'
            check = {"expr": count, "eval_time": f"{minutes}m", "exp_samples": [{"labels": "{}", "value": expected}]}
            inputs = [{"series": series, "values": values}]
            tests.append({"interval": "1m", "input_series": inputs, "promql_expr_test": [check]})
    lake = [
        {"series": "runlake_ingest_accepted_seq", "values": "10x40"},
        {"series": "runlake_ingest_flushed_seq", "values": "10x40"},
    ]
    alert = 'count(ALERTS{alertname="RunLakeLakeNotWritten", alertstate="firing"}) or vector(0)'
    for flushed, expected in (("10x40", 0), ("5x40", 1), ("0+1x40", 0)):
        check = {"expr": alert, "eval_time": "30m", "exp_samples": [{"labels": "{}", "value": expected}]}
        inputs = [{**lake[0], "values": "100x40" if flushed == "0+1x40" else "10x40"}, {**lake[1], "values": flushed}]
        tests.append({"interval": "1m", "input_series": inputs, "promql_expr_test": [check]})
    assert {rule["alert"] for rule in _RULES} == {*_CASES, "RunLakeLakeNotWritten"}
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(_DEPLOY / "alerts.yml")], "tests": tests}))
    _promtool("test", "rules", file)
