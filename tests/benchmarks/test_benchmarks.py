"""Every benchmark runs in its short form and prints its figures; how large they are is for `scripts/bench` to say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from support.haproxy import find_haproxy
from support.postgres import find_binaries

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "name", ["emit", "track", "ingest", "apply", "freshness", "http", "history", "streams", "curve", "away"]
)
def test_a_benchmark_prints_one_json_line_per_figure_with_machine_facts(name: str) -> None:
    prints_figures(name)


def prints_figures(name: str) -> None:
    """Run it in its short form; each line that it prints is a figure."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--short", name],
        cwd=TESTS, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    assert figures
    for figure in figures:
        assert figure["value"] > 0
        assert figure["unit"]
        assert figure["machine"]["cores"] >= 1


@pytest.mark.skipif(
    not (shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")),
    reason="no Chromium here: apt-get install chromium",
)
def test_the_benchmark_of_the_dashboard_prints_figures() -> None:
    prints_figures("dashboard")


@pytest.mark.skipif(
    find_binaries() is None or find_haproxy() is None, reason="no cluster here: apt-get install postgresql haproxy"
)
def test_the_benchmark_of_the_cluster_prints_figures() -> None:
    prints_figures("cluster")
