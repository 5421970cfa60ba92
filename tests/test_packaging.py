"""The wheel: it holds every file of the tree, and works when it is installed away from the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from support.processes import wait_until

_ROOT = Path(__file__).parents[1]
_PACKAGES = {
    "runlake": _ROOT / "shared" / "runlake",
    "runlake_ingest": _ROOT / "ingest" / "runlake_ingest",
    "runlake_query": _ROOT / "query" / "runlake_query",
}
_SEND_ONE_RUN = """
import runlake
with runlake.track_run("packager", "check", run_id="from-the-wheel") as run:
    run.event("looked", {"at": "the wheel"})
assert runlake.flush(30), runlake.stats()
print(runlake.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tree with the build backend that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--disable-pip-version-check", "--wheel-dir", str(folder), str(_ROOT)],
        check=True,
        cwd=folder,
    )  # fmt: skip
    (built,) = folder.glob("runlake-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a fresh environment that has the wheel, and borrows all else from the one of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python), "install",
         "--no-deps", "--no-index", str(wheel)],
        check=True,
        cwd=folder,
    )  # fmt: skip
    (own,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file is only searched: the .pth files in it, the editable install among them, are not read.
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_holds_every_file_of_the_tree(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        f"{package}/{path.relative_to(folder)}"
        for package, folder in _PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == wanted
    assert {f"{package}/py.typed" for package in _PACKAGES} <= held
    assert any(name.endswith(".sql") for name in held)


def test_the_wheel_carries_its_licence_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "runlake = runlake.cli:main" in archive.read(entry_points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_installed_wheel_records_a_run_and_gives_it_back(installed: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RUNLAKE_", "PYTHON"))}
    environment |= {
        "RUNLAKE_DATA": str(tmp_path / "data"),
        "RUNLAKE_HTTP": "127.0.0.1:0",
        "RUNLAKE_METRICS": "127.0.0.1:0",
        "RUNLAKE_INGEST": f"ipc://{tmp_path}/i",
        "RUNLAKE_PUSH": f"ipc://{tmp_path}/p",
        "RUNLAKE_FEED": f"ipc://{tmp_path}/f",
    }
    log = tmp_path / "log"

    def events() -> list[dict[str, object]]:
        lines = log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    with log.open("w") as out:
        up = subprocess.Popen(
            [str(installed / "runlake"), "up", "--json-logs"], stderr=out, env=environment, cwd=tmp_path
        )
    try:
        wait_until(
            lambda: up.poll() is not None or any(e["process"] == "up" and e["event"] == "ready" for e in events()),
            "RunLake to be ready",
        )
        assert up.poll() is None, log.read_text()
        sent = subprocess.run(
            [str(installed / "python"), "-c", _SEND_ONE_RUN],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert sent.returncode == 0, sent.stderr
        assert Path(sent.stdout.strip()).is_relative_to(installed.parent)
        http = next(str(event["http"]) for event in events() if event["event"] == "listening")

        def found() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [str(installed / "runlake"), "runs", "show", "from-the-wheel", "--http", http],
                env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
            )  # fmt: skip

        wait_until(lambda: found().returncode == 0, "the run to be visible")
        shown = json.loads(found().stdout)
        assert shown["run"]["status"] == "success"
        assert [event["type"] for event in shown["events"]] == ["looked"]
    finally:
        up.terminate()
        assert up.wait(60) == 0
