"""Who does what in the demo: the files and commits that there are, dealt out to agents."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

from msgspec import Struct

from runlake.cli.failure import CommandFailed

SOURCE_KINDS = ("ast-measurer", "bytecode-compiler")
"""The agents that walk the tree; every file is the work of one agent of each kind."""
HISTORIAN = "git-historian"
_ENOUGH_FILES = 1_300
"""With two runs and four events a file, enough for the 2,000 runs and 5,000 events that a demo is to have."""
_INSTALLED = ("site-packages", "dist-packages")


class Job(Struct, frozen=True, kw_only=True):
    """What one agent process is to do. `root` is the tree or the repository, `items` are files in it or commits."""

    agent: str
    root: str
    items: list[str]
    endpoint: str
    demo_id: str
    timeout_s: float
    recording: str | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """All jobs. `units` is how many steps of progress they make, `says` what people should know before."""

    demo_id: str
    jobs: list[Job]
    units: int
    recordings: list[Path]
    says: list[str]


def plan(
    *,
    tree: Path | None,
    repository: Path | None,
    max_files: int | None,
    max_commits: int,
    processes: int,
    endpoint: str,
    demo_id: str,
    record: Path | None,
    timeout_s: float,
) -> Plan:
    """Find the work and deal it out. Raises CommandFailed for a tree without Python files, or a repository that was
    named and is none."""
    root, files = _find_files(tree)
    files = files[:max_files]
    each = max(1, processes // len(SOURCE_KINDS))
    hands = [(kind, str(root), files[hand::each]) for kind in SOURCE_KINDS for hand in range(each)]
    says = [f"{len(files):,} files of {root}, {len(hands)} agents"]
    top, commits, why_none = _find_commits(repository, max_commits)
    if commits:
        hands.append((HISTORIAN, str(top), commits))
        says.append(f"{len(commits):,} commits of {top}, 1 agent")
    else:
        says.append(f"no commits: {why_none}")
    recordings = [Path(f"{record}.{number}") for number in range(len(hands))] if record else []
    jobs = [
        Job(
            agent=agent,
            root=place,
            items=items,
            endpoint=endpoint,
            demo_id=demo_id,
            timeout_s=timeout_s,
            recording=str(recordings[number]) if record else None,
        )
        for number, (agent, place, items) in enumerate(hands)
        if items
    ]
    return Plan(
        demo_id=demo_id,
        jobs=jobs,
        units=sum(len(job.items) for job in jobs),
        recordings=[Path(job.recording) for job in jobs if job.recording],
        says=says,
    )


def _find_files(tree: Path | None) -> tuple[Path, list[str]]:
    if tree is not None:
        if not tree.is_dir():
            raise CommandFailed(f"--tree: {tree} is no folder.")
        files = _python_files(tree, ())
        if not files:
            raise CommandFailed(f"--tree: there is no Python file in {tree}.")
        return tree.resolve(), files
    library = Path(sysconfig.get_path("stdlib"))
    files = _python_files(library, _INSTALLED)
    if len(files) < _ENOUGH_FILES:  # some distributions leave the library's tests out
        installed = Path(sysconfig.get_path("purelib"))
        files += [str(installed / name) for name in _python_files(installed, ())]
    return library, files


def _python_files(folder: Path, leave_out: tuple[str, ...]) -> list[str]:
    names = (path.relative_to(folder) for path in folder.rglob("*.py") if path.is_file())
    return sorted(str(name) for name in names if not set(leave_out) & set(name.parts))


def _find_commits(repository: Path | None, at_most: int) -> tuple[Path, list[str], str]:
    """The newest commits of a repository; or none, and why."""
    place = repository or Path.cwd()
    try:
        top = Path(_git(place, "rev-parse", "--show-toplevel").strip())
        return top, _git(top, "rev-list", f"--max-count={at_most}", "HEAD").split(), "it has none"
    except FileNotFoundError:
        reason = "git is not installed"
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = f"{place} is no git repository that can be read ({words[0] if words else error.returncode})"
    if repository is not None:
        raise CommandFailed(f"--repo: {reason}.")
    return place, [], f"{reason}; name one with --repo"


def _git(folder: Path, *words: str) -> str:
    found = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=True)
    return found.stdout.decode("utf-8", "replace")
