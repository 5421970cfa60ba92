"""An agent of the ingest benchmark: emits COUNT events flat out and prints its books (ENDPOINT COUNT)."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import msgspec

import runlake


def main(endpoint: str, count: int) -> None:
    emitter = runlake.Emitter(endpoint=endpoint, queue_messages=count, queue_bytes=1 << 30)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        emitter.emit(
            runlake.RunEvent(
                event_id=emitter.new_id(),
                run_id=f"run-{number % 100}",
                ts=datetime.now(UTC),
                type="step",
                payload={"number": number, "text": "x" * 40},
            )
        )
    assert emitter.flush(240), emitter.stats()
    stats = emitter.stats()
    print(msgspec.json.encode(stats).decode())
    emitter.close(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
