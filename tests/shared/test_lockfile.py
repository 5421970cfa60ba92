"""A lock file tells whether who held it before ended by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from runlake import lockfile

HOLD = """
import os, sys
from runlake import lockfile
lockfile.claim(os.open(sys.argv[1], os.O_RDWR))
os.kill(os.getpid(), 9)
"""


def test_a_process_that_was_killed_is_known_by_its_number_and_one_that_ended_is_not(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    killed = subprocess.Popen([sys.executable, "-c", HOLD, path])
    killed.wait()
    lock = os.open(path, os.O_RDWR)
    assert lockfile.claim(lock) == killed.pid
    assert lockfile.read(lock) == os.getpid()
    lockfile.release(lock)
    assert lockfile.claim(lock) == 0
    os.close(lock)


def test_a_lock_file_with_anything_else_in_it_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"\xff no number")
    lock = os.open(path, os.O_RDWR)
    assert lockfile.claim(lock) == 0
    os.close(lock)
