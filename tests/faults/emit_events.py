"""A producer process of the fault suite: emits a run with numbered events and changes as fast as it may, and prints its
own books.

python emit_events.py ENDPOINT NAME COUNT
"""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime

import msgspec

import runlake

FLUSH_S = 900.0
_CHANGE_EVERY = 9
"""So many events stand between two changes of the run."""


def main(endpoint: str, name: str, count: int) -> None:
    emitter = runlake.Emitter(endpoint=endpoint, queue_messages=count, queue_bytes=1 << 30, ack_timeout_s=2.0)
    start = runlake.RunStarted(
        event_id=emitter.new_id(), run_id=name, agent_name="faults", job_type="emit", start_time=datetime.now(UTC)
    )
    emitter.emit(start)
    breath = threading.Event()
    for number in range(1, count):
        if number % (_CHANGE_EVERY + 1) == 0:
            emitter.emit(
                runlake.RunUpdated(
                    event_id=emitter.new_id(),
                    run_event_id=start.event_id,
                    ts=datetime.now(UTC),
                    items_succeeded=number,
                )
            )
        else:
            emitter.emit(
                runlake.RunEvent(
                    event_id=emitter.new_id(),
                    run_id=name,
                    run_event_id=start.event_id,
                    ts=datetime.now(UTC),
                    type="step",
                    payload={"number": number},
                )
            )
        if number % 1_000 == 0:
            breath.wait(0.005)  # an agent that also works: emitting lasts as long as the kills do
    delivered = emitter.flush(FLUSH_S)
    stats = emitter.stats()
    print(msgspec.json.encode({"delivered": delivered, "stats": stats}).decode())
    emitter.close(1.0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
