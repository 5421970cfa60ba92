"""The work of `git-historian`: look at a commit, and associate it with the run that did."""

from __future__ import annotations

import subprocess
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runlake.cli.demo.work import Step

_FORMAT = "%an <%ae>%x00%cI%x00%s%x00"


def inspect_commit(step: Step, root: str, commit_hash: str) -> None:
    """Measure one commit. Raises CalledProcessError when git cannot show it."""
    shown = subprocess.run(
        ["git", "-C", root, "show", "--no-color", "--numstat", f"--format={_FORMAT}", commit_hash],
        capture_output=True,
        check=True,
    )
    author, when, subject, changes = shown.stdout.decode("utf-8", "replace").split("\0", 3)
    step.commit(commit_hash, source="ci", author=author[:1_024], timestamp=datetime.fromisoformat(when))
    added = removed = files = 0
    for line in changes.split("\n"):
        plus, tab, rest = line.partition("\t")
        if tab:
            files += 1
            minus = rest.partition("\t")[0]
            added += int(plus) if plus.isdigit() else 0  # "-" for a binary file
            removed += int(minus) if minus.isdigit() else 0
    step.event("diffed", {"files": files, "lines_added": added, "lines_removed": removed})
    step.update(
        git_repo=root[-1_024:],
        items_discovered=files,
        items_succeeded=files,
        input_summary=subject,
        output_summary=f"{files:,} files, +{added:,} −{removed:,} lines",
        metrics_json={"files": files, "lines_added": added, "lines_removed": removed},
    )
