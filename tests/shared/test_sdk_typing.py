"""The SDK's types, as a checker of the agent's code sees them."""

from __future__ import annotations

import sys
from pathlib import Path

import mypy.api
import pytest

import runlake

_AGENT = '''
import asyncio
from collections.abc import AsyncGenerator, Generator

import runlake

@runlake.track_run("a", "b")
def function(x: int, *, y: str = "") -> float:
    return x / 2

@runlake.track_run("a", "b", heartbeat=30, website="example.org")
async def coroutine(x: int) -> str:
    return str(x)

@runlake.track_run("a", "b")
def generator(x: int) -> Generator[int, str, bytes]:
    yield x
    return b""

@runlake.track_run("a", "b")
async def async_generator(x: int) -> AsyncGenerator[int, str]:
    yield x

class Agent:
    @runlake.track_run("a", "b")
    def method(self, x: int) -> int:
        return x

reveal_type(function)
reveal_type(coroutine)
reveal_type(generator)
reveal_type(async_generator)
reveal_type(Agent().method)
reveal_type(runlake.wrap(function))
with runlake.track_run("a", "b") as run:
    reveal_type(run)
    reveal_type(run.child("c"))
    reveal_type(run.traceparent())
reveal_type(runlake.current_run())
async def main() -> None:
    async with runlake.track_run("a", "b") as run:
        reveal_type(run)
function("wrong")
run.progress("wrong")
runlake.track_run(1, "b")
'''  # fmt: skip


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("typing")
    agent = folder / "agent.py"
    agent.write_text(_AGENT)
    sources = Path(runlake.__file__).parents[1]
    config = folder / "mypy.ini"
    config.write_text(f"[mypy]\nstrict = True\nmypy_path = {sources}\nfollow_imports = silent\n")
    out, err, _ = mypy.api.run(
        ["--config-file", str(config), "--cache-dir", str(folder / "cache"), "--no-error-summary",
         "--python-executable", sys.executable, str(agent)]
    )  # fmt: skip
    assert err == ""
    return [line.partition(": ")[2] for line in out.splitlines()]


def test_decorators_keep_the_signatures_of_what_they_decorate(said: list[str]) -> None:
    revealed = [line.partition('"')[2].rstrip('"') for line in said if line.startswith("note: Revealed")]
    assert revealed == [
        "def (x: int, *, y: str =) -> float",
        "def (x: int) -> typing.Coroutine[Any, Any, str]",
        "def (x: int) -> typing.Generator[int, str, bytes]",
        "def (x: int) -> typing.AsyncGenerator[int, str]",
        "def (x: int) -> int",
        "def (x: int, *, y: str =) -> float",
        "runlake.tracking.Run",
        "runlake.tracking.Run",
        "str",
        "runlake.tracking.Run | None",
        "runlake.tracking.Run",
    ]


def test_wrong_calls_are_found_and_right_ones_are_not(said: list[str]) -> None:
    errors = [line for line in said if line.startswith("error")]
    assert len(errors) == 3, errors
    assert all("incompatible type" in line for line in errors)
    for called in ('"function"', '"progress" of "Run"', '"track_run"'):
        assert any(called in line for line in errors)
