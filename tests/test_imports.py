"""The folders say what can be deployed apart: who may import whom, and what `import runlake` loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_OURS = {"runlake", "runlake_ingest", "runlake_query"}
_MAY_IMPORT = {
    "shared": {"runlake"},
    "ingest": {"runlake", "runlake_ingest"},
    "query": {"runlake", "runlake_query"},
}


def _imported(path: Path) -> Iterator[str]:
    """The top-level names that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_bytes(), path.name)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("folder", _MAY_IMPORT)
def test_a_folder_imports_of_ours_only_what_it_may(folder: str) -> None:
    files = sorted((_ROOT / folder).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(_ROOT)} imports {name}"
        for path in files
        for name in _imported(path)
        if name in _OURS - _MAY_IMPORT[folder]
    ]
    assert wrong == []


def test_no_shipped_file_imports_the_tests() -> None:
    for folder in _MAY_IMPORT:
        for path in (_ROOT / folder).rglob("*.py"):
            assert not {"tests", "support", "pytest", "hypothesis"} & set(_imported(path)), path


def _loaded_by(code: str) -> set[str]:
    """The top-level modules that are loaded once `code` has run."""
    program = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in run.stdout.split()}


def test_importing_runlake_loads_nothing_beyond_msgspec_and_pyzmq() -> None:
    others = _loaded_by("import runlake") - _loaded_by("import msgspec, zmq")
    assert others - sys.stdlib_module_names == {"runlake"}


def test_using_the_sdk_loads_nothing_beyond_msgspec_and_pyzmq() -> None:
    used = _loaded_by("import runlake; runlake.Emitter('tcp://127.0.0.1:9').close(0)")
    assert used - _loaded_by("import msgspec, zmq") - sys.stdlib_module_names == {"runlake"}


def test_importing_runlake_does_not_load_the_command_line() -> None:
    program = "import runlake, sys; print([name for name in sys.modules if name.startswith('runlake.cli')])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
