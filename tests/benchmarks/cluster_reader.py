"""A process of the cluster benchmark: reads from HOST:PORT for SECONDS on one connection, by turns one run, a page of
the list and a rollup, and prints how long each answer took, in seconds, as JSON. The token is in RUNLAKE_TOKEN.

python -m benchmarks.cluster_reader HOST:PORT SECONDS
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from http.client import HTTPConnection
from time import perf_counter

_PATHS = {
    "run": "/api/v1/runs/probe",
    "list": "/api/v1/runs?agent_name=bench&limit=100",
    "rollup": "/api/v1/rollups?group_by=agent_name&measures=runs,events",
}


def main(address: str, seconds: float) -> None:
    connection = HTTPConnection(address, timeout=30)
    headers = {"Authorization": f"Bearer {os.environ['RUNLAKE_TOKEN']}"}
    took: dict[str, list[float]] = {name: [] for name in _PATHS}
    until = perf_counter() + seconds
    for name in itertools.cycle(_PATHS):
        begun = perf_counter()
        if begun > until:
            break
        connection.request("GET", _PATHS[name], headers=headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, (name, answer.status)
        took[name].append(perf_counter() - begun)
    print(json.dumps(took))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
