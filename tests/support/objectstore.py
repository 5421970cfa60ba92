"""A real S3 server for tests: moto's, as a process on loopback, which keeps its objects in memory.

It ends with the process that started it. The shared one (the fixture `object_store`) is started once per test process;
every test takes a bucket of its own from it.

python objectstore.py HOST PORT prints its address, and serves until standard input ends.
"""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
from http.client import HTTPConnection
from types import TracebackType
from typing import Self
from xml.etree import ElementTree

_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_DEADLINE_S = 30.0


class ObjectStore:
    """Use as a context manager. `prefix` starts its process, as in `Process`."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, prefix: tuple[str, ...] = ()) -> None:
        self.host, self.port = host, port
        self._prefix = prefix
        self._server: subprocess.Popen[str] | None = None
        self._numbers = itertools.count(1)

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """The variables for a process that is to use it."""
        return environment(self.endpoint)

    def create_bucket(self) -> str:
        """A new bucket; returns its URL, `s3://NAME/`."""
        name = f"lake-{next(self._numbers)}"
        self._ask("PUT", f"/{name}")
        return f"s3://{name}/"

    def keys(self, bucket: str) -> list[str]:
        """Every key below a URL like that of `create_bucket`."""
        name, _, prefix = bucket.removeprefix("s3://").partition("/")
        keys: list[str] = []
        after = ""
        while True:
            page = ElementTree.fromstring(
                self._ask("GET", f"/{name}?list-type=2&prefix={prefix}&start-after={after}").decode()
            )
            keys += [key.text or "" for key in page.iter(f"{_NAMESPACE}Key")]
            if page.findtext(f"{_NAMESPACE}IsTruncated") != "true":
                return keys
            after = keys[-1]

    def start(self) -> None:
        """Start it, and wait until it takes connections. It begins empty."""
        self._server = subprocess.Popen(
            [*self._prefix, sys.executable, __file__, self.host, str(self.port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._server.stdout is not None
        said = self._server.stdout.readline().split()
        assert said, "moto's server did not start: is moto[server] installed?"
        self.host, self.port = said[0], int(said[1])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(_DEADLINE_S)
        self._server.stdout.close()

    def _ask(self, method: str, path: str) -> bytes:
        connection = HTTPConnection(self.host, self.port, timeout=_DEADLINE_S)
        try:
            connection.request(method, path, headers={"Host": f"{self.host}:{self.port}"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, (method, path, answer.status, body)
            return body
        finally:
            connection.close()


def environment(endpoint: str) -> dict[str, str]:
    """The AWS_* variables for a process that is to use this endpoint."""
    return {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": endpoint,
    }


def _serve(host: str, port: int) -> None:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(host, port, verbose=False)
    server.start()
    where, port = server.get_host_and_port()
    print(where, port, flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
