"""An agent of the cluster suite: it records run after run, with numbered events and changes, until its standard input
ends; then it waits until all is acknowledged, and prints its own books.

python agent.py ENDPOINTS NAME PER_SECOND
"""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime

import msgspec

import runlake

FLUSH_S = 900.0
_TURN_S = 0.05
_RUN_LENGTH = 100
_CHANGE_EVERY = 10


def wait_for_end(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def main(endpoints: str, name: str, per_second: int) -> None:
    emitter = runlake.Emitter(endpoint=endpoints, ack_timeout_s=2.0)
    ended = threading.Event()
    threading.Thread(target=wait_for_end, args=(ended,), daemon=True).start()
    emitted = runs = 0
    run = emitter.new_id()
    while not ended.wait(_TURN_S):
        for _ in range(round(per_second * _TURN_S)):
            number = emitted % _RUN_LENGTH
            now = datetime.now(UTC)
            if number == 0:
                runs += 1
                run = emitter.new_id()
                emitter.emit(
                    runlake.RunStarted(
                        event_id=run, run_id=f"{name}-{runs}", agent_name="cluster", job_type="emit", start_time=now
                    )
                )
            elif number % _CHANGE_EVERY == 0:
                emitter.emit(
                    runlake.RunUpdated(event_id=emitter.new_id(), run_event_id=run, ts=now, items_succeeded=number)
                )
            else:
                emitter.emit(
                    runlake.RunEvent(
                        event_id=emitter.new_id(),
                        run_id=f"{name}-{runs}",
                        run_event_id=run,
                        ts=now,
                        type="step",
                        payload={"number": number},
                    )
                )
            emitted += 1
    delivered = emitter.flush(FLUSH_S)
    print(msgspec.json.encode({"delivered": delivered, "stats": emitter.stats()}).decode())
    emitter.close(1.0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
