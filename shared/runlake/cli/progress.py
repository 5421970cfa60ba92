"""A progress bar: rich's on a terminal where it is installed, else a line now and then on standard error."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runlake.cli.output import rich_can_print

_LINE_EVERY_S = 5.0


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how much of `total` is done. Yields the function that is told how many more are."""
    if not sys.stderr.isatty() or not rich_can_print():
        with _plain_lines(what, total) as advance:
            yield advance
        return
    from rich.console import Console  # noqa: PLC0415 (an extra, loaded when it is used)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.advance(task, more)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show that there is something to wait for, nobody knows how long."""
    if not sys.stderr.isatty() or not rich_can_print():
        with _waiting_lines(what):
            yield
        return
    from rich.console import Console  # noqa: PLC0415 (an extra, loaded when it is used)
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(what, total=None)
        yield


@contextmanager
def _waiting_lines(what: str) -> Iterator[None]:
    done = threading.Event()
    begun = time.monotonic()

    def tell() -> None:
        while not done.wait(_LINE_EVERY_S):
            print(f"{what}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


@contextmanager
def _plain_lines(what: str, total: int) -> Iterator[Callable[[int], None]]:
    done = 0
    next_line = time.monotonic() + _LINE_EVERY_S

    def advance(more: int) -> None:
        nonlocal done, next_line
        done += more
        if time.monotonic() >= next_line:
            next_line = time.monotonic() + _LINE_EVERY_S
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    yield advance
    print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)
