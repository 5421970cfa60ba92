"""The commands where the API asks for a token: they send it, from the variable or its file, and never show it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api import Api
from support.processes import wait_until
from support.producer import Producer
from support.runlake_command import Command
from support.samples import started

TOKEN = "only-for-this-test-0123456789"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """RunLake with a token, and one run in it."""
    command = Command(tmp_path_factory.mktemp("guarded"))
    with command.up({"RUNLAKE_TOKEN": TOKEN}):
        with Producer(command.settings["RUNLAKE_INGEST"]) as producer:
            assert producer.deliver([started(run_id="guarded")]).accepted == 1
        api = Api(f"http://{command.http}")
        trusted = {"Authorization": f"Bearer {TOKEN}"}
        wait_until(lambda: api.get("/api/v1/runs/guarded", trusted).status == 200, "the run is there")
        api.close()
        yield command


@pytest.fixture(params=["the variable", "a file"])
def trusted(guarded: Command, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Command]:
    """The command with the token."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    guarded.more = {"RUNLAKE_TOKEN": TOKEN} if request.param == "the variable" else {"RUNLAKE_TOKEN_FILE": str(file)}
    yield guarded
    guarded.more = {}


@pytest.mark.parametrize(
    "line", [("runs",), ("runs", "show", "guarded"), ("rollup", "--by", "agent_name"), ("doctor",)]
)
def test_a_command_with_the_token_is_answered(trusted: Command, line: tuple[str, ...]) -> None:
    done = trusted(*line)
    assert done.returncode == 0, done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    if line[0] == "runs":
        assert "guarded" in done.stdout
    if line[0] == "rollup":
        assert json.loads(done.stdout)["totals"]["runs"] == 1


@pytest.mark.parametrize("line", [("runs",), ("runs", "show", "guarded"), ("rollup",)])
@pytest.mark.parametrize("token", ["", "not-the-one-of-this-test-0123"])
def test_a_command_without_the_right_token_fails_and_says_why(
    guarded: Command, line: tuple[str, ...], token: str
) -> None:
    guarded.more = {"RUNLAKE_TOKEN": token} if token else {}
    done = guarded(*line)
    guarded.more = {}
    assert done.returncode == 1
    assert "token" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert not token or token not in done.stderr
