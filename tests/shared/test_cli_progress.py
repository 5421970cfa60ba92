"""The progress of an export, for people and for logs."""

from __future__ import annotations

import io
import re
import sys

import pytest

from runlake.cli import progress
from runlake.cli.progress import progress_bar, waiting
from support.processes import wait_until


class Terminal(io.StringIO):
    """What is written to it, by programs that take it for a terminal."""

    def isatty(self) -> bool:
        return True


def export_three_pieces() -> None:
    with progress_bar("400 runs, bytes", 3_000) as advance:
        for _ in range(3):
            advance(1_000)


def test_in_a_terminal_it_is_a_bar_that_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    export_three_pieces()
    assert "400 runs, bytes" in terminal.getvalue()
    assert "3000/3000" in terminal.getvalue()


def test_elsewhere_it_is_plain_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    export_three_pieces()
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "400 runs, bytes: 3,000 of 3,000\n")


def test_a_wait_of_unknown_length_is_a_bar_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with waiting("waiting for the first rows"):
        wait_until(lambda: re.search(r"0:00:(0[1-9]|[1-5][0-9])", terminal.getvalue()) is not None, "time passes")
    assert "waiting for the first rows" in terminal.getvalue()


def test_elsewhere_a_wait_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    told = io.StringIO()
    monkeypatch.setattr(sys, "stderr", told)
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.01)
    with waiting("waiting for the file"):
        wait_until(lambda: told.getvalue().count("waiting for the file: 0 s\n") > 1, "it is told again")
