"""`runlake export` when not all arrives, or cannot be kept: no file that looks complete."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runlake.cli.rowcount import RowCount

_HEAD = b"HTTP/1.1 200 OK\r\nRunLake-Rows: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
_ROWS = b'{"run_id":"a"}\n{"run_id":"b"}\n'
_CHUNK = b"%x\r\n%b\r\n" % (len(_ROWS), _ROWS)
FULL = Path("/dev/full")


@contextmanager
def answering(*parts: bytes) -> Iterator[str]:
    """A server that sends these parts to one client, and ends; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(65_536)
                for part in parts:
                    client.sendall(part)

        server = threading.Thread(target=serve)
        server.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        server.join(60)


def export(http: str, *more: str, stdout: Any = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNLAKE_")}
    return subprocess.run(
        [sys.executable, "-m", "runlake.cli", "export", "runs", "--http", http, *more],
        stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "why"),
    [((_HEAD, _CHUNK), "The answer broke off"), ((_HEAD, _CHUNK, b"0\r\n\r\n"), "broke off after 2 of 3 runs")],
    ids=["the connection ends", "a proxy ends the answer as if it were all"],
)
def test_an_answer_that_breaks_off_leaves_no_file(tmp_path: Path, parts: tuple[bytes, ...], why: str) -> None:
    with answering(*parts) as http:
        done = export(http, "--output", str(tmp_path / "runs.ndjson"))
    assert done.returncode == 1
    assert why in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_full_disk_behind_standard_output_is_told() -> None:
    with answering(_HEAD, _CHUNK, b"0\r\n\r\n") as http, FULL.open("wb") as full:
        done = export(http, stdout=full)
    assert done.returncode == 1
    assert "runlake: Standard output cannot be written: No space left on device\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


_TEXTS = st.text(alphabet='a",\n\r é', max_size=8)


@given(rows=st.lists(st.tuples(_TEXTS, _TEXTS), max_size=8), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_rows_are_counted_however_their_bytes_come(rows: list[tuple[str, str]], cuts: list[int]) -> None:
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("one", "two"), *rows])
    lines = "".join(json.dumps({"one": one, "two": two}) + "\n" for one, two in rows)
    for kind, text in (("csv", table.getvalue()), ("ndjson", lines)):
        count, whole, at = RowCount(kind), text.encode(), 0
        told = 0
        for end in (*sorted(cuts), len(whole)):
            told += count.more(whole[at:end])
            at = max(at, end)
        assert told == len(rows)
