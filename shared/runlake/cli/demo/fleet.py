"""The demo's agents as processes of their own, which report through pipes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait

from runlake.cli.demo.plan import Job
from runlake.cli.demo.tally import Tally
from runlake.cli.demo.work import do_job
from runlake.cli.failure import CommandFailed

_END_S = 10.0


def run_fleet(jobs: Sequence[Job], advance: Callable[[int], None]) -> list[Tally]:
    """Run each job in a process of its own, all at once; returns their tallies in order.

    `advance` is told how many more items are done. Raises CommandFailed when an agent dies. Ends the agents when this
    is interrupted.
    """
    context = multiprocessing.get_context("spawn")
    agents: dict[Connection, int] = {}
    processes = []
    tallies: list[Tally | None] = [None] * len(jobs)
    try:
        for number, job in enumerate(jobs):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_agent, args=(job, theirs), name=job.agent, daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            agents[ours] = number
        while agents:
            for pipe in wait(list(agents)):
                if not isinstance(pipe, Connection):
                    continue
                try:
                    said = pipe.recv()
                except EOFError:
                    number = agents.pop(pipe)
                    if tallies[number] is None:
                        processes[number].join(_END_S)
                        raise CommandFailed(
                            f"the agent {jobs[number].agent} ended before its work did"
                            f" (exit status {processes[number].exitcode})."
                        ) from None
                    continue
                if isinstance(said, Tally):
                    tallies[agents[pipe]] = said
                else:
                    advance(said)
    finally:
        for process in processes:
            if None in tallies:
                process.terminate()
        for process in processes:
            process.join(_END_S)
    return [tally for tally in tallies if tally is not None]


def _agent(job: Job, report: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the demo, which ends its agents
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    report.send(do_job(job, report.send))
    report.close()
