"""The folder of allowed keys is followed as it changes, and a look that fails changes nothing."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runlake.cli.keyfiles import new_pair, write_public
from runlake.keyfolder import KeyFolder
from runlake_ingest.allowedkeys import AllowedKeys, Change


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    folder = KeyFolder(tmp_path)
    folder.allowed_folder.mkdir()
    return folder


def allow(folder: KeyFolder, name: str) -> str:
    public = new_pair().public
    write_public(folder.allowed_folder / f"{name}.key", public)
    return public


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """As when a flood of connections has taken them all."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_keys_come_go_and_change(folder: KeyFolder) -> None:
    keys = AllowedKeys(folder)
    assert keys.look() == Change([], [], [])
    one, two = allow(folder, "one"), allow(folder, "two")
    assert keys.look() == Change(["one", "two"], [], [])
    assert keys.names == {one: "one", two: "two"}
    assert keys.look() == Change([], [], [])
    (folder.allowed_folder / "one.key").unlink()
    assert keys.look() == Change([], ["one"], [])
    (folder.allowed_folder / "two.key").unlink()
    other = allow(folder, "two")
    assert keys.look() == Change(["two"], ["two"], [])
    assert keys.names == {other: "two"}


def test_a_key_with_two_names_is_let_in_until_both_are_gone(folder: KeyFolder) -> None:
    keys = AllowedKeys(folder)
    public = allow(folder, "one")
    write_public(folder.allowed_folder / "two.key", public)
    keys.look()
    (folder.allowed_folder / "one.key").unlink()
    assert keys.look().gone == []
    assert keys.names == {public: "two"}
    (folder.allowed_folder / "two.key").unlink()
    assert keys.look().gone == ["two"]


def test_what_is_not_a_key_is_told_once_and_read_again(folder: KeyFolder) -> None:
    keys = AllowedKeys(folder)
    file = folder.allowed_folder / "one.key"
    os.mkfifo(file)
    (told,) = keys.look().problems
    assert "one.key" in told
    assert keys.look().problems == []
    file.unlink()
    allow(folder, "one")
    assert keys.look().come == ["one"]


def test_nobody_is_locked_out_while_the_folder_cannot_be_read(folder: KeyFolder) -> None:
    keys = AllowedKeys(folder)
    one = allow(folder, "one")
    keys.look()
    with no_descriptors_left():
        change = keys.look()
        again = keys.look()
    assert (change.gone, len(change.problems), again.problems) == ([], 1, [])
    assert keys.names == {one: "one"}
    two = allow(folder, "two")
    assert keys.look().come == ["two"]
    assert keys.names == {one: "one", two: "two"}


def test_a_folder_that_is_gone_lets_nobody_in(folder: KeyFolder) -> None:
    keys = AllowedKeys(folder)
    allow(folder, "one")
    keys.look()
    (folder.allowed_folder / "one.key").unlink()
    folder.allowed_folder.rmdir()
    assert keys.look().gone == ["one"]
    assert keys.names == {}
