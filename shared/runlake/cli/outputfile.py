"""Where a command's bytes go: a file that is complete or not there, or standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from runlake.cli.failure import USAGE, CommandFailed

BINARY = frozenset(("parquet", "arrow"))
_ENDINGS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet", ".arrows": "arrow"}


def format_of(path: Path | None, otherwise: str) -> str:
    """The format that the ending of a file's name means."""
    return _ENDINGS.get(path.suffix.lower(), otherwise) if path else otherwise


@contextmanager
def output_file(path: Path | None, kind: str) -> Iterator[BinaryIO]:
    """What to write into. Raises CommandFailed for what no terminal can show, or a file that cannot be written."""
    if path is None:
        if kind in BINARY and sys.stdout.isatty():
            raise CommandFailed(f"{kind} is not for terminals: name a file with --output.", USAGE)
        with _standard_output() as stdout:
            yield stdout
        return
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    try:
        try:
            yield sys.stdout.buffer
        finally:
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer has to go somewhere
        raise CommandFailed(f"Standard output cannot be written: {error.strerror or error}") from None
