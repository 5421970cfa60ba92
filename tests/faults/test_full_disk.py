"""A disk that is really full: a small file system in a mount namespace of its own. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults.oracle import judge
from faults.world import Ear, World

_SIZE_MIB = 64
_FREE_MIB = 3
MESSAGES = 20_000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_p1_a_full_disk_loses_nothing_and_the_worker_goes_on_when_there_is_room(
    make_world: Callable[..., World],
) -> None:
    world = make_world("--flush-interval-ms", "200")
    world.site.env = {}
    with small_disk(world.site.data) as (enter, inside):
        world.site.prefix = enter
        ingest = world.start_ingest()
        ear = Ear(ingest)
        fill(inside / "ballast", leaving_mib=_FREE_MIB)
        world.emit(MESSAGES)
        ear.wait_for("disk_failed")
        (inside / "ballast").unlink()
        world.finish_producers()
        assert ingest.terminate() == 0
        assert list((inside / "ingest" / "journal").iterdir()) == []
        shutil.copytree(inside, world.site.data, dirs_exist_ok=True)
    judge(world.facts(), world.messages)


@contextmanager
def small_disk(folder: Path) -> Iterator[tuple[tuple[str, ...], Path]]:
    """A small file system at `folder`, in a mount namespace: what enters it, and where this process sees the folder."""
    folder.mkdir(parents=True)
    script = f'mount -t tmpfs -o size={_SIZE_MIB}m none "$1" && echo mounted && exec cat'
    holder = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdin is not None and holder.stdout is not None
    try:
        assert holder.stdout.readline() == "mounted\n", "no namespace, or nothing may be mounted here"
        enter = ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--")
        yield enter, Path(f"/proc/{holder.pid}/root{folder}")
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()


def fill(path: Path, *, leaving_mib: int) -> None:
    free = os.statvfs(path.parent)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - leaving_mib * 1024 * 1024)
