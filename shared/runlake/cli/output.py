"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Collection, Sequence
from typing import Any

import msgspec


def for_people(as_json: bool) -> bool:
    """Whether to print tables: on a terminal, unless JSON was asked for."""
    return not as_json and sys.stdout.isatty()


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode("utf-8") + "\n")


def print_json_text(text: bytes) -> None:
    """Print what is JSON already, indented: every number as it is."""
    sys.stdout.write(msgspec.json.format(text, indent=2).decode("utf-8") + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, cut: Collection[str] = (), fold: str = ""
) -> None:
    """Print rows under their column names: with rich where it is installed, else as aligned text.

    Where the terminal is too narrow, the columns `cut` are shortened; the column `fold` goes on in the next line.
    """
    width = terminal_width()
    texts = _fit([[cell(value) for value in row] for row in rows], columns, cut, width)
    right = [bool(rows) and all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(columns))]
    if not rich_can_print():
        _print_plain(title, columns, texts, right)
        return
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 (an extra, loaded when it is used)
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, padding=(0, _GAP, 0, 0), pad_edge=False, show_edge=False)
    for name, is_right in zip(columns, right, strict=True):
        table.add_column(name, justify="right" if is_right else "left", overflow="fold", no_wrap=name != fold)
    for row in texts:
        table.add_row(*(Text(text, style=STATUS_STYLES.get(text, "")) for text in row))
    # What does not fit even so goes on in the terminal's next line: a number that is cut in half would mislead.
    needed = width if fold else max(width, _needed(columns, texts))
    console = Console(width=needed, highlight=False)
    console.print(Text(title, style="bold"))
    console.print(table)


def rich_can_print() -> bool:
    """Whether rich is installed, and the terminal can do what it does."""
    return importlib.util.find_spec("rich") is not None and os.environ.get("TERM", "") not in ("dumb", "unknown")


def _needed(columns: Sequence[str], texts: Sequence[Sequence[str]]) -> int:
    widths = [max(len(line[at]) for line in [columns, *texts]) for at in range(len(columns))]
    return sum(widths) + (_GAP + 1) * len(widths)


def terminal_width() -> int:
    """How many characters fit in a line; 100 where there is no terminal."""
    return shutil.get_terminal_size((100, 24)).columns


def _fit(texts: list[list[str]], columns: Sequence[str], cut: Collection[str], width: int) -> list[list[str]]:
    """Shorten the columns `cut`, from the widest, until every line fits; not below their names."""
    widths = [max(len(line[at]) for line in [list(columns), *texts]) for at in range(len(columns))]
    flexible = [at for at, name in enumerate(columns) if name in cut]
    while sum(widths) + (_GAP + 1) * len(widths) > width:
        widest = max(flexible, key=lambda at: widths[at] - max(_MIN_CUT, len(columns[at])), default=None)
        if widest is None or widths[widest] <= max(_MIN_CUT, len(columns[widest])):
            break
        widths[widest] -= 1
    return [[_shortened(text, widths[at]) if at in flexible else text for at, text in enumerate(row)] for row in texts]


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


_GAP = 1
_MIN_CUT = 6
STATUS_STYLES = {
    "success": "green",
    "failure": "red",
    "partial": "yellow",
    "timeout": "magenta",
    "cancelled": "dim",
    "running": "cyan",
}


def _print_plain(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> None:
    widths = [max(len(line[at]) for line in [columns, *rows]) for at in range(len(columns))]
    print(title)
    for line in [columns, *rows]:
        aligned = (
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(line, widths, right, strict=True)
        )
        print("  ".join(aligned).rstrip())


def cell(value: object) -> str:
    """One value as people read it: control characters escaped, so that recorded text cannot steer the terminal."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.3f}".rstrip("0").rstrip(".")
        case str():
            return printable(value)
        case _:
            return printable(msgspec.json.encode(value).decode("utf-8"))


def printable(text: str) -> str:
    """Text with control characters written as escapes."""
    return "".join(char if char.isprintable() or char == "\u00a0" else ascii(char)[1:-1] for char in text)


def clock(text: str | None, today: str = "") -> str | None:
    """An API time (RFC 3339, UTC) as people read it, to the second: the time alone when it is of the date `today`."""
    if text is None:
        return None
    return text[11:19] if text[:10] == today else text[:19].replace("T", " ")


def span(milliseconds: int | float | None) -> str | None:
    """A duration as people read it."""
    if milliseconds is None:
        return None
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1_000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1_000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
