"""An agent's work, recorded: one run for the agent, below it one for each file or commit.

The agent counts what it does as it does it; how much of that arrives is the API's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import runlake
from runlake.cli.demo.bytecode import compile_file
from runlake.cli.demo.history import inspect_commit
from runlake.cli.demo.plan import Job
from runlake.cli.demo.recording import RecordingEmitter
from runlake.cli.demo.syntax import parse_file
from runlake.cli.demo.tally import Tally

_PRODUCT = "runlake-demo"
_REPORT_EVERY = 10


class Step:
    """One child run, as the work on one item sees it: it counts what it records."""

    def __init__(self, run: runlake.Run, tally: Tally) -> None:
        self._run = run
        self._tally = tally

    def event(self, kind: str, payload: dict[str, Any]) -> None:
        self._run.event(kind, payload)
        self._tally.events += 1

    def update(self, **fields: Any) -> None:
        self._run.update(**fields)

    def commit(self, commit_hash: str, **fields: Any) -> None:
        self._run.commit(commit_hash, **fields)
        self._tally.commits.append(commit_hash)


_WORK: dict[str, tuple[str, Callable[[Step, str, str], None]]] = {
    "ast-measurer": ("parse-file", parse_file),
    "bytecode-compiler": ("compile-file", compile_file),
    "git-historian": ("inspect-commit", inspect_commit),
}


def do_job(job: Job, advance: Callable[[int], None]) -> Tally:
    """Work through a job's items. `advance` is told now and then how many more are done."""
    job_type, work = _WORK[job.agent]
    tally = Tally(agent=job.agent)
    common: dict[str, Any] = {
        "product": _PRODUCT,
        "insight_id": job.demo_id,
        "trigger_type": "demo",
        "environment": "demo",
    }
    with _emitter(job) as emitter:
        with runlake.track_run(
            job.agent, "walk", emitter=emitter, input_summary=f"{len(job.items):,} items of {job.root}", **common
        ) as walk:
            tally.runs += 1
            failed = 0
            for done, item in enumerate(job.items, 1):
                try:
                    with runlake.track_run(
                        job.agent, job_type, emitter=emitter, item_name=item[-1_024:], **common
                    ) as run:
                        tally.runs += 1
                        work(Step(run, tally), job.root, item)
                except Exception as error:  # noqa: BLE001 (the run has recorded it; the walk goes on)
                    failed += 1
                    tally.failures += 1
                    walk.event("item_failed", {"item": item, "error": f"{type(error).__name__}: {error}"[:500]})
                    tally.events += 1
                if done % _REPORT_EVERY == 0:
                    advance(_REPORT_EVERY)
            advance(len(job.items) % _REPORT_EVERY)
            walk.update(
                status="partial" if failed else "success",
                items_discovered=len(job.items),
                items_succeeded=len(job.items) - failed,
                items_failed=failed,
            )
        tally.undelivered = _undelivered(emitter, job.timeout_s)
    return tally


@contextmanager
def _emitter(job: Job) -> Iterator[runlake.Emitter]:
    if job.recording is None:
        emitter = runlake.Emitter(endpoint=job.endpoint)
    else:
        emitter = RecordingEmitter(job.recording, endpoint=job.endpoint)
    try:
        yield emitter
    finally:
        emitter.close(job.timeout_s)


def _undelivered(emitter: runlake.Emitter, timeout_s: float) -> int:
    emitter.flush(timeout_s)
    stats = emitter.stats()
    return stats.emitted - stats.accepted - stats.duplicates
