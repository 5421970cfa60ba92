"""Does the read model of a query process equal the fold of the lake? Both at one position of the log.

The fold is the lake's own view `runs`; the read model is what the HTTP API exports, and how many runs of each kind its
lists say there are. Costs that RunLake computed from a price table are in the read model alone, and are left out.
"""

from __future__ import annotations

import tempfile
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from urllib.parse import urlencode

from runlake.cli.failure import CommandFailed
from runlake.cli.ports import elsewhere, listened_on
from runlake.cli.positions import Positions, positions_text, read_positions
from runlake.cli.worker_client import flush_if_there
from runlake.clienthttp import EXPORT_TIMEOUT_S, ClientHttp
from runlake.errors import ApiRefused, RunLakeError
from runlake.messages import Status
from runlake.settings import Settings, host_and_port, variable

if TYPE_CHECKING:
    import duckdb

    from runlake.lake.verify import Check

_TRIES = 5
_MAX_NAMES = 1_000
"""Of so many agents, and of so many job types, the totals are asked for."""


def check_read_model(settings: Settings, *, named: bool) -> Check:
    """Compare what the query process at `settings.http` answers with the lake. Raises duckdb.Error, LakeError.

    `named`: somebody said where it is. One that cannot be asked is wrong then; where only the default says so and
    nothing listens there, nobody was to be asked.
    """
    from runlake.lake.attach import read_lake  # noqa: PLC0415 (an extra)
    from runlake.lake.verify import Check, flushed, runs_that_differ  # noqa: PLC0415

    no_port = host_and_port(settings.http)[1] == 0
    if no_port or not (named or elsewhere(settings.http) or listened_on(settings.http)):
        return Check("read model", f"not compared, for no query process is named ({variable('http')})", [], [])
    api = ClientHttp(f"http://{settings.http}", settings.token or None, EXPORT_TIMEOUT_S)
    for _ in range(_TRIES):
        flush_if_there(settings.ingest, settings.client_keys)
        with tempfile.TemporaryDirectory(prefix="runlake-verify-") as folder, read_lake(settings.lake) as connection:
            export = Path(folder) / "runs.parquet"
            wanted = {worker: seq for worker, (_, seq) in flushed(connection).items() if seq}
            try:
                reflected = _download(api, export, wanted)
                totals = _wrong_totals(api, connection, export, wanted) if reflected == wanted else None
            except (RunLakeError, CommandFailed, OSError) as error:
                return Check("read model", "not compared", [_why_not(settings.http, error)], [])
            if totals is None:
                continue
            differing = runs_that_differ(connection, export)
            return Check("read model", f"{_rows(connection, export):,} runs", [*differing, *totals], [])
    busy = "messages keep coming, and the two were never at one position: verify again when it is quieter"
    return Check("read model", "not compared", [], [], [busy])


def _why_not(address: str, error: Exception) -> str:
    if isinstance(error, ApiRefused) and error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return (
            f"the query process at {address} answers {error.status}: set {variable('token')} (or"
            f" {variable('token_file')}) to its token"
        )
    return f"the query process at {address}: {error}"


def _download(api: ClientHttp, target: Path, after: dict[str, int]) -> dict[str, int]:
    """Export all runs to a Parquet file, once the read model has followed so far; returns what it reflects."""
    asked = {"format": "parquet"}
    if after:
        asked["after"] = positions_text(after)
    with api.download(f"/api/v1/runs?{urlencode(asked)}") as download, target.open("wb") as file:
        for piece in download.pieces():
            file.write(piece)
        return _positions(download.position)


def _wrong_totals(
    api: ClientHttp, connection: duckdb.DuckDBPyConnection, export: Path, wanted: dict[str, int]
) -> list[str] | None:
    """Where lists tell of another number of runs than was exported, by status, agent and job type; None when an answer
    reflects something else than `wanted`."""
    metadata = api.get("/api/v1/metadata")
    if _positions(metadata.position) != wanted:
        return None
    listed = {
        "status": get_args(Status),
        "agent_name": metadata.value["agent_names"],
        "job_type": metadata.value["job_types"],
    }
    wrong = []
    for field, names in listed.items():
        query = f"SELECT {field}, count(*) FROM read_parquet(?) GROUP BY {field}"
        there = dict(connection.execute(query, [str(export)]).fetchall())
        wrong += [f"{field} {name!r} is not listed" for name in sorted(there.keys() - set(names), key=str)]
        for name in names[:_MAX_NAMES]:
            answer = api.get(f"/api/v1/runs?{urlencode({field: name, 'limit': 1})}")
            if _positions(answer.position) != wanted:
                return None
            total, runs = answer.value["total"], there.get(name, 0)
            if total != runs:
                wrong.append(f"lists tell of {total:,} runs with {field} {name!r}, and there are {runs:,}")
    return wrong


def _positions(text: str) -> Positions:
    """Without workers of which nothing came yet. Raises CommandFailed."""
    return {worker: seq for worker, seq in read_positions(text).items() if seq}


def _rows(connection: duckdb.DuckDBPyConnection, export: Path) -> int:
    row = connection.execute("SELECT count(*) FROM read_parquet(?)", [str(export)]).fetchone()
    return int(row[0]) if row else 0
