"""A process of the fault suite that is many producers: they connect at once, and each sends one message. Prints how
many were accepted.

python crowd.py ENDPOINT NAME COUNT SECONDS
"""

from __future__ import annotations

import resource
import sys
from datetime import UTC, datetime
from uuid import uuid4

import zmq

from runlake import wire
from runlake.messages import RunEvent


def main(endpoint: str, name: str, count: int, deadline_s: float) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, count + 10)
    sockets = []
    for number in range(count):
        socket = context.socket(zmq.DEALER)
        socket.connect(endpoint)
        message = RunEvent(event_id=uuid4(), run_id=name, ts=datetime.now(UTC), type="step")
        header = wire.Batch(producer=f"{name}-{number}", batch=1, first=1, count=1)
        socket.send_multipart((wire.encode_frame(header), wire.encode_payload([wire.encode_message(message)])))
        sockets.append(socket)
    accepted = 0
    for socket in sockets:
        if not socket.poll(round(deadline_s * 1000)):
            sys.exit(f"no answer within {deadline_s} s, after {accepted} of {count}")
        ack = wire.decode_reply(socket.recv())
        assert isinstance(ack, wire.Ack)
        accepted += ack.accepted
    print(accepted)
    context.destroy(linger=0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
