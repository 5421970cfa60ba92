"""A sender of the cluster suite that speaks HTTP, as clients without the SDK do: it records run after run, with
numbered events and changes, one request after the other, until its standard input ends. It asks again with the same
ids until it is answered. Prints how many messages were acknowledged, and how often it had to ask again.

python http_writer.py HOST:PORT NAME (the token is in RUNLAKE_TOKEN)
"""

from __future__ import annotations

import json
import os
import sys
import threading
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from typing import Any
from uuid import uuid4

_RUN_LENGTH = 20
_CHANGE_EVERY = 5
_PAUSE_S = 0.02
_AGAIN_AFTER_S = 0.1
_AT_MOST = 3_000
_TIMEOUT_S = 30.0


class Writer:
    def __init__(self, address: str) -> None:
        self._connection = HTTPConnection(address, timeout=_TIMEOUT_S)
        self._token = os.environ["RUNLAKE_TOKEN"]
        self._breath = threading.Event()
        self.again = 0

    def send(self, method: str, path: str, value: Any) -> None:
        """Ask until it is acknowledged."""
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
            "Idempotency-Key": str(uuid4()),
        }
        said = ""
        for _ in range(_AT_MOST):
            try:
                self._connection.request(method, path, json.dumps(value), headers)
                answer = self._connection.getresponse()
                said = f"{answer.status} {answer.read().decode()}"
                if answer.status in (200, 201):
                    return
                if answer.status < 500:
                    break
            except (HTTPException, OSError) as error:
                said = repr(error)
                self._connection.close()
            self.again += 1
            self._breath.wait(_AGAIN_AFTER_S)
        sys.exit(f"{method} {path}: {said}")


def wait_for_end(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def main(address: str, name: str) -> None:
    writer = Writer(address)
    ended = threading.Event()
    threading.Thread(target=wait_for_end, args=(ended,), daemon=True).start()
    acknowledged = runs = 0
    run = ""
    while not ended.wait(_PAUSE_S):
        number = acknowledged % _RUN_LENGTH
        now = datetime.now(UTC).isoformat()
        if number == 0:
            runs += 1
            run = str(uuid4())
            value = {"event_id": run, "run_id": f"{name}-{runs}", "agent_name": "http", "job_type": "write"}
            writer.send("POST", "/api/v1/runs", {**value, "start_time": now})
        elif number % _CHANGE_EVERY == 0:
            writer.send("PATCH", f"/api/v1/runs/{run}", {"items_succeeded": number})
        else:
            writer.send(
                "POST", f"/api/v1/runs/{run}/events", {"type": "step", "ts": now, "payload": {"number": number}}
            )
        acknowledged += 1
    print(json.dumps({"acknowledged": acknowledged, "again": writer.again}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
