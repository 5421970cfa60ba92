"""A process of the cluster benchmark: an agent that emits COUNT messages to ENDPOINTS as fast as it may, in runs of a
hundred. Prints how many seconds it took until all were acknowledged.

python -m benchmarks.cluster_sender ENDPOINTS NAME COUNT
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from time import perf_counter

import runlake

_RUN_LENGTH = 100
_FLUSH_S = 300.0


def main(endpoints: str, name: str, count: int) -> None:
    emitter = runlake.Emitter(endpoint=endpoints, spool="off", queue_messages=count, queue_bytes=1 << 30)
    begun = perf_counter()
    run = emitter.new_id()
    for number in range(count):
        now = datetime.now(UTC)
        if number % _RUN_LENGTH == 0:
            run = emitter.new_id()
            emitter.emit(
                runlake.RunStarted(
                    event_id=run, run_id=f"{name}-{number}", agent_name="bench", job_type="load", start_time=now
                )
            )
        else:
            emitter.emit(
                runlake.RunEvent(
                    event_id=emitter.new_id(),
                    run_id=f"{name}-{number - number % _RUN_LENGTH}",
                    run_event_id=run,
                    ts=now,
                    type="load",
                    payload={"number": number, "text": "x" * 40},
                )
            )
    assert emitter.flush(_FLUSH_S), emitter.stats()
    print(perf_counter() - begun, flush=True)
    emitter.close(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
