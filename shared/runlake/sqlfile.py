"""SQL lives in `.sql` files beside the code that runs it: named queries, each with a comment that says what it answers.

A file is a sequence of `-- name: <name>` lines, each followed by its query. `{placeholders}` are filled by `str.format`
with identifiers or queries from our own fixed lists only; values are always bound.
"""

from __future__ import annotations

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


def load_queries(package: str, file: str) -> dict[str, str]:
    """The queries of a `.sql` file in a package, by name."""
    text = files(package).joinpath(file).read_text("utf-8")
    parts = _NAME.split(text)
    return {name: _without_comment(body) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def _without_comment(body: str) -> str:
    """The query without the comment above it, whose words `str.format` must not touch."""
    lines = body.strip().splitlines()
    start = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[start:]).rstrip(";\n ")
