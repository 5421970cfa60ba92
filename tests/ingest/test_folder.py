"""The worker's folder: one process at a time, and an id that stays with it and with nothing else."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from runlake.errors import AlreadyRunning
from runlake_ingest.folder import WorkerFolder

_HOLD = """
import sys
from pathlib import Path
from uuid import uuid4
from runlake_ingest.folder import WorkerFolder
folder = WorkerFolder(Path(sys.argv[1]), uuid4)
print("held", flush=True)
sys.stdin.read()
"""


def worker_of(path: Path, machine: str = "here") -> str:
    folder = WorkerFolder(path, uuid4, machine)
    folder.close()
    return str(folder.worker)


def test_a_folder_held_by_another_process_is_refused_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "ingest"
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyRunning) as refused:
            WorkerFolder(path, uuid4)
        assert f"process {holder.pid}" in str(refused.value)
        assert str(path) in str(refused.value)
        assert "RUNLAKE_DATA" in str(refused.value)
        holder.kill()
        holder.wait()
        WorkerFolder(path, uuid4).close()


def test_a_folder_is_free_once_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "ingest"
    first = WorkerFolder(path, uuid4)
    with pytest.raises(AlreadyRunning):
        WorkerFolder(path, uuid4)
    first.close()
    first.close()
    WorkerFolder(path, uuid4).close()


def test_a_refused_folder_leaks_no_descriptor(tmp_path: Path) -> None:
    held = WorkerFolder(tmp_path / "ingest", uuid4)
    gc.collect()  # what earlier tests left behind
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (no paths wanted)
    for _ in range(20):
        with pytest.raises(AlreadyRunning):
            WorkerFolder(tmp_path / "ingest", uuid4)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    held.close()


def test_the_id_is_the_same_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ingest"
    assert worker_of(path) == worker_of(path)


def test_the_id_moves_with_a_folder_that_is_renamed(tmp_path: Path) -> None:
    first = worker_of(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    assert worker_of(tmp_path / "new") == first


def test_a_copied_folder_takes_a_new_id_and_the_original_keeps_its_own(tmp_path: Path) -> None:
    first = worker_of(tmp_path / "original")
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    copied = worker_of(tmp_path / "copy")
    assert copied != first
    assert worker_of(tmp_path / "copy") == copied
    assert worker_of(tmp_path / "original") == first


def test_a_folder_on_another_machine_takes_a_new_id(tmp_path: Path) -> None:
    path = tmp_path / "ingest"
    first = worker_of(path, machine="here")
    assert worker_of(path, machine="there") != first


@pytest.mark.parametrize("content", [b"", b"{", b'{"worker":"no uuid"}', b"\xff\xfe"])
def test_an_unreadable_id_is_replaced(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ingest"
    first = worker_of(path)
    (path / "worker.json").write_bytes(content)
    second = worker_of(path)
    assert second != first
    assert worker_of(path) == second


def test_a_leftover_of_a_torn_first_start_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "ingest"
    path.mkdir()
    (path / "worker.new").write_bytes(b'{"work')
    assert worker_of(path) == worker_of(path)
    assert not (path / "worker.new").exists()


def test_a_start_that_fails_lets_go_of_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "ingest"
    path.mkdir()
    (path / "worker.json").mkdir()
    for _ in range(2):
        with pytest.raises(IsADirectoryError):
            worker_of(path)
    (path / "worker.json").rmdir()
    assert worker_of(path) == worker_of(path)
