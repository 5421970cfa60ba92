"""The work of `ast-measurer`: read a file, parse it, measure the tree."""

from __future__ import annotations

import ast
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runlake.cli.demo.work import Step

_BRANCHES = ("If", "For", "AsyncFor", "While", "Try", "TryStar", "With", "AsyncWith", "Match", "IfExp", "BoolOp")


def parse_file(step: Step, root: str, name: str) -> None:
    """Parse one file. Raises what the parser raises for one that is no Python of this version."""
    source = (Path(root) / name).read_bytes()
    step.event("read", {"bytes": len(source), "lines": source.count(b"\n")})
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tree = ast.parse(source, name)
        except SyntaxError as error:
            step.event("syntax_error", {"line": error.lineno, "column": error.offset, "message": error.msg})
            raise
    parse_ms = round((time.perf_counter() - began) * 1_000, 3)
    counts = Counter(type(node).__name__ for node in ast.walk(tree))
    step.event("parsed", {"nodes": counts.total(), "parse_ms": parse_ms})
    for warning in caught:
        step.event("warning", {"line": warning.lineno, "message": str(warning.message)})
    functions = counts["FunctionDef"] + counts["AsyncFunctionDef"]
    metrics = {
        "lines": source.count(b"\n"),
        "nodes": counts.total(),
        "functions": functions,
        "classes": counts["ClassDef"],
        "imports": counts["Import"] + counts["ImportFrom"],
        "branches": sum(counts[kind] for kind in _BRANCHES),
        "depth": _depth(tree),
    }
    step.event("measured", {"metrics": metrics})
    definitions = functions + counts["ClassDef"]
    step.update(
        items_discovered=definitions,
        items_succeeded=definitions,
        metrics_json=metrics,
        output_summary=f"{metrics['lines']:,} lines, {functions:,} functions, {counts['ClassDef']:,} classes",
    )


def _depth(tree: ast.AST) -> int:
    deepest = 0
    level: list[ast.AST] = [tree]
    while level:
        deepest += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return deepest
