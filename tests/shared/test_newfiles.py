"""The kernel's word on which files appeared is the same as that of the folder itself."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runlake.lake.newfiles import NewFiles, ScannedFiles, WatchedFiles, new_files


@pytest.fixture(params=[WatchedFiles, ScannedFiles])
def watch(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], NewFiles]]:
    made: list[NewFiles] = []

    def make(root: Path) -> NewFiles:
        made.append(request.param(root))
        return made[-1]

    yield make
    for each in made:
        each.close()
        each.close()


def test_what_appears_anywhere_below_is_found_once(tmp_path: Path, watch: Callable[[Path], NewFiles]) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "before").write_bytes(b"x")
    new = watch(tmp_path)
    assert new.take() == set()
    names = ["a/1", "a/b/2", "3", "c/d/4", "c/5"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert new.take() == {str(tmp_path / name) for name in names}
    assert new.take() == set()
    (tmp_path / "c" / "d" / "6").touch()
    os.rename(tmp_path / "3", tmp_path / "c" / "7")  # noqa: PTH104
    assert new.take() == {str(tmp_path / "c" / "d" / "6"), str(tmp_path / "c" / "7")}


def test_a_root_that_comes_later_is_found(tmp_path: Path, watch: Callable[[Path], NewFiles]) -> None:
    new = watch(tmp_path / "root")
    assert new.take() == set()
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "1").touch()
    assert new.take() == {str(tmp_path / "root" / "a" / "1")}


def test_when_the_kernel_lost_count_all_files_are_given_again(tmp_path: Path) -> None:
    (tmp_path / "before").touch()
    new = WatchedFiles(tmp_path)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    path = tmp_path / "one"
    other = tmp_path / "other"
    for _ in range(limit // 2 + 1):  # two names in turn, for equal events in a row count as one
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
        os.close(os.open(other, os.O_WRONLY | os.O_CREAT))
    (tmp_path / "lost").touch()
    assert new.take() == {str(tmp_path / name) for name in ("before", "one", "other", "lost")}
    assert new.take() == set()
    new.close()


def test_where_the_kernel_has_no_watch_to_give_the_folder_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ctypes, "CDLL", lambda *_, **__: _NoInotify())
        new = new_files(tmp_path)
    assert isinstance(new, ScannedFiles)
    (tmp_path / "1").touch()
    assert new.take() == {str(tmp_path / "1")}


class _NoInotify:
    """A kernel whose inotify instances are all in use (EMFILE)."""

    def inotify_init1(self, flags: int) -> int:
        ctypes.set_errno(24)
        return -1
