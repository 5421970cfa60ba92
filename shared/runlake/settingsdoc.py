"""The settings as they are documented in their struct, for people: names, defaults, and what they mean."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from runlake import settings as settings_module
from runlake.settings import Settings

_WIDTH = 100


class Documented(NamedTuple):
    """A setting. `default` is None when it has none, or is computed from others."""

    name: str
    default: str | int | None
    meaning: str


def documented() -> list[Documented]:
    """All settings, in the order of the struct."""
    meanings = _docstrings()
    return [
        Documented(field.name, _plain(field.default), meanings[field.name])
        for field in msgspec.structs.fields(Settings)
    ]


def as_toml(values: Mapping[str, str | int]) -> str:
    """A `runlake.toml` that sets these values, and shows every other setting with its default, commented out."""
    parts = [
        "# The settings of RunLake. What is commented out is the default, or has none.\n"
        "# Flags (--data) and variables (RUNLAKE_DATA) come before what is here.\n"
    ]
    for setting in documented():
        lines = textwrap.wrap(setting.meaning, _WIDTH - 2)
        if setting.name in values:
            assignment = f"{setting.name} = {_literal(values[setting.name])}"
        else:
            assignment = f"# {setting.name} = {'…' if setting.default is None else _literal(setting.default)}"
        parts.append("".join(f"# {line}\n" for line in lines) + assignment + "\n")
    return "\n".join(parts)


def _literal(value: str | int) -> str:
    """A number, or a text as a basic string of TOML, which escapes as JSON does."""
    return str(value) if isinstance(value, int) else msgspec.json.encode(value).decode()


def _plain(default: object) -> str | int | None:
    if isinstance(default, int):
        return default
    text = str(default)
    return None if text in ("", str(Path())) else text


def _docstrings() -> dict[str, str]:
    """What stands below each field of the struct."""
    tree = ast.parse(inspect.getsource(settings_module))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == Settings.__name__)
    return dict(_paired(body))


def _paired(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, text in itertools.pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                yield name, " ".join(meaning.split())
