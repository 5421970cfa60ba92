"""A producer of the benchmark `away`: sends event after event to ENDPOINT until its input ends, waits for the acks, and
prints how many events were accepted."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from uuid import uuid4

import zmq

from runlake import wire
from runlake.ids import Uuid7Source
from runlake.messages import RunEvent

_IN_FLIGHT = 16
_BATCH = 500
_DEADLINE_MS = 300_000


def main(endpoint: str) -> None:
    over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    name, new_id = str(uuid4()), Uuid7Source()
    sent = acked = accepted = 0
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        while acked < sent or not over.is_set():
            while sent - acked < _IN_FLIGHT and not over.is_set():
                header = wire.Batch(producer=name, batch=sent + 1, first=sent * _BATCH + 1, count=_BATCH)
                socket.send_multipart((wire.encode_frame(header), _payload(new_id)))
                sent += 1
            assert socket.poll(_DEADLINE_MS), "the worker does not answer"
            reply = wire.decode_reply(socket.recv())
            assert isinstance(reply, wire.Ack), reply
            acked += 1
            accepted += reply.accepted
    print(accepted)


def _payload(new_id: Uuid7Source) -> bytes:
    now = datetime.now(UTC)
    return wire.encode_payload(
        [
            wire.encode_message(
                RunEvent(
                    event_id=new_id(),
                    run_id=f"run-{number % 100}",
                    ts=now,
                    type="step",
                    payload={"number": number, "text": "x" * 40},
                )
            )
            for number in range(_BATCH)
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1])
