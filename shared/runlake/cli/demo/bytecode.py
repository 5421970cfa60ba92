"""The work of `bytecode-compiler`: compile a file, measure its code objects. It finds errors that a parser does not."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runlake.cli.demo.work import Step


def compile_file(step: Step, root: str, name: str) -> None:
    """Compile one file. Raises what the compiler raises for one that is no Python of this version."""
    source = (Path(root) / name).read_bytes()
    step.event("read", {"bytes": len(source)})
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code = compile(source, name, "exec", dont_inherit=True)
        except SyntaxError as error:
            step.event("syntax_error", {"line": error.lineno, "column": error.offset, "message": error.msg})
            raise
    compile_ms = round((time.perf_counter() - began) * 1_000, 3)
    objects = list(_code_objects(code))
    metrics = {
        "code_objects": len(objects),
        "bytecode_bytes": sum(len(each.co_code) for each in objects),
        "constants": sum(len(each.co_consts) for each in objects),
        "names": len({name for each in objects for name in each.co_names}),
        "deepest_stack": max(each.co_stacksize for each in objects),
        "compile_ms": compile_ms,
    }
    step.event("compiled", {"metrics": metrics})
    step.update(
        items_discovered=len(objects),
        items_succeeded=len(objects),
        metrics_json=metrics,
        output_summary=f"{metrics['bytecode_bytes']:,} bytes of code in {len(objects):,} objects",
    )


def _code_objects(code: CodeType) -> Iterator[CodeType]:
    waiting = [code]
    while waiting:
        code = waiting.pop()
        yield code
        waiting.extend(each for each in code.co_consts if isinstance(each, CodeType))
