"""The dashboard's modules, checked by the TypeScript compiler."""

from __future__ import annotations

import shutil
import subprocess
from importlib.resources import as_file, files

import pytest


def test_the_modules_are_typed_and_the_types_hold() -> None:
    compiler = shutil.which("tsc")
    if compiler is None:
        pytest.skip("no TypeScript compiler here: npm install -g typescript")
    with as_file(files("runlake_query.dashboard") / "jsconfig.json") as project:
        found = subprocess.run([compiler, "-p", str(project)], capture_output=True, text=True, timeout=300, check=False)
        unchecked = [
            path.name
            for path in (project.parent / "static").glob("*.js")
            if not path.read_text().startswith("// @ts-check")
        ]
    assert found.returncode == 0, found.stdout
    assert unchecked == []
