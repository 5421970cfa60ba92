"""A misspelt variable is told at the start, with the nearest name, and never with its value."""

from __future__ import annotations

from pathlib import Path

import pytest

from runlake.strayvariables import stray_variables
from support.processes import Process, Site
from support.runlake_command import Command

SECRET = "a-token-that-nobody-may-see"


def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one() -> None:
    environ = {"RUNLAKE_TOKN": SECRET, "RUNLAKE_DATA": "x", "RUNLAKE_SPOOL": "off", "PATH": "x", "RUNLAKE_ZZZZ": "x"}
    told = [str(stray) for stray in stray_variables(environ)]
    assert told == [
        "the variable RUNLAKE_TOKN is no setting, and has no effect; did you mean RUNLAKE_TOKEN?",
        "the variable RUNLAKE_ZZZZ is no setting, and has no effect",
    ]


@pytest.mark.parametrize("module", ["runlake_ingest", "runlake_query"])
def test_both_processes_warn_at_the_start(tmp_path: Path, module: str) -> None:
    site = Site(tmp_path)
    flags = ("--data", str(site.data), "--ingest", site.ingest_endpoint, "--feed", site.feed_endpoint)
    more = {
        "runlake_ingest": ("--push", site.push_endpoint, "--metrics", "127.0.0.1:0"),
        "runlake_query": ("--http", "127.0.0.1:0"),
    }[module]
    with Process(module, *flags, *more, env={"RUNLAKE_TOKN": SECRET}) as process:
        warning = process.wait_for("stray_variable")
        assert warning["level"] == "warning"
        assert "did you mean RUNLAKE_TOKEN?" in warning["reason"]
        process.wait_for("ready" if module == "runlake_ingest" else "listening")
        process.terminate()
        assert SECRET not in "".join(process.text)


def test_the_command_warns_and_goes_on(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.more["RUNLAKE_HTPT"] = SECRET
    done = command("runs")
    assert "RUNLAKE_HTPT is no setting" in done.stderr
    assert "RUNLAKE_HTTP?" in done.stderr
    assert SECRET not in done.stderr
    assert "nothing answers at" in done.stderr
