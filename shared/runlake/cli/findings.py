"""What `runlake doctor` finds, and how it prints it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Finding(Struct, frozen=True):
    """One thing that was looked at. `fix` says what to do, and is there for every problem."""

    state: Literal["good", "note", "problem"]
    what: str
    fix: str | None = None


MARKS = {"good": "✓", "note": "·", "problem": "✗"}


def good(what: str) -> Finding:
    return Finding("good", what)


def note(what: str, fix: str | None = None) -> Finding:
    return Finding("note", what, fix)


def problem(what: str, fix: str) -> Finding:
    return Finding("problem", what, fix)


def as_text(finding: Finding) -> str:
    """One or two lines for people."""
    line = f"{MARKS[finding.state]} {finding.what}"
    return line if finding.fix is None else f"{line}\n    → {finding.fix}"
