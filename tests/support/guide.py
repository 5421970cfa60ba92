"""The commands of a page of the docs, as they stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Step(NamedTuple):
    """One line of a block: the command, what its comment says, and the paragraph before the block."""

    command: str
    comment: str
    where: str


def section(page: str, heading: str, within: str = "") -> str:
    """What stands below a heading, up to the next one of its rank; `within`: below the heading that it is under."""
    rank = heading.partition(" ")[0]
    text = section(page, within) if within else (DOCS / page).read_text("utf-8")
    begin = text.index(f"\n{heading}\n") + len(heading) + 2
    end = re.compile(rf"^#{{1,{len(rank)}}} ", re.MULTILINE).search(text, begin)
    return text[begin : end.start() if end else len(text)]


def steps(text: str) -> Iterator[Step]:
    """Every command of a section, in order."""
    at = 0
    for block in _BLOCK.finditer(text):
        where = text[at : block.start()].strip().rpartition("\n\n")[2]
        at = block.end()
        for line in block.group(1).splitlines():
            command, _, comment = line.partition(" #")
            yield Step(command.rstrip(), comment.strip(), " ".join(where.split()))
