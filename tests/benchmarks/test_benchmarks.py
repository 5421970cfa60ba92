"""Every benchmark runs in its short form and prints its figures; how large they are is for `scripts/bench` to say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["emit", "ingest", "freshness", "http"])
def test_a_benchmark_prints_one_json_line_per_figure_with_machine_facts(name: str) -> None:
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
