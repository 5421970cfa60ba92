"""Named queries in `.sql` files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runlake.sqlfile import load_queries


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with one `.sql` file."""
    folder = tmp_path / "package_with_queries"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "some.sql").write_text(
        "-- What stands above the first name is of the file: {not} a query.\n"
        "\n"
        "-- name: first\n"
        "-- What it answers, with {braces} that are no placeholder.\n"
        "SELECT 1\n"
        "FROM {changes} -- kept\n"
        "\n"
        "-- name: second\n"
        "SELECT 'é';\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield_name = folder.name
    sys.modules.pop(yield_name, None)
    return yield_name


def test_queries_are_found_by_name_without_their_comments_and_semicolons(package: str) -> None:
    assert load_queries(package, "some.sql") == {
        "first": "SELECT 1\nFROM {changes} -- kept",
        "second": "SELECT 'é'",
    }


def test_placeholders_can_be_filled_though_comments_hold_braces(package: str) -> None:
    assert load_queries(package, "some.sql")["first"].format(changes="t") == "SELECT 1\nFROM t -- kept"


def test_a_file_that_is_not_there_is_an_error(package: str) -> None:
    with pytest.raises(FileNotFoundError):
        load_queries(package, "other.sql")


def test_the_fold_is_made_of_its_queries_and_their_terms() -> None:
    names = list(load_queries("runlake.lake", "fold.sql"))[:5]
    assert names == ["changes", "fold", "fold_field", "fold_of_commit", "present"]
