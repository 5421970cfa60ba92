"""Does the read model of a query process equal the fold of the lake? Both at one position of the log.

The fold is the lake's own view `runs`; the read model is what the HTTP API exports, and how many runs of each status it
says there are. Costs that RunLake computed from a price table are in the read model alone, and are left out.
"""

from __future__ import annotations

import tempfile
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from urllib.parse import urlencode

from runlake.cli.failure import CommandFailed
from runlake.cli.ports import elsewhere, listened_on
from runlake.cli.worker_client import flush_if_there
from runlake.clienthttp import EXPORT_TIMEOUT_S, ClientHttp
from runlake.errors import ApiRefused, RunLakeError
from runlake.messages import Status
from runlake.settings import Settings, host_and_port, variable

if TYPE_CHECKING:
    import duckdb

    from runlake.lake.verify import Check

_TRIES = 5


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
                told = _totals(api, wanted)
            except (RunLakeError, CommandFailed, OSError) as error:
                return Check("read model", "not compared", [_why_not(settings.http, error)], [])
            if reflected != wanted or told is None:
                continue
            there = _runs_by_status(connection, export)
            wrong = runs_that_differ(connection, export)
            wrong += [
                f"lists tell of {told[status]:,} runs that are {status}, and there are {there.get(status, 0):,}"
                for status in told
                if told[status] != there.get(status, 0)
            ]
            return Check("read model", f"{sum(there.values()):,} runs", wrong, [])
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
        asked["after"] = ",".join(f"{worker}:{seq}" for worker, seq in after.items())
    with api.download(f"/api/v1/runs?{urlencode(asked)}") as download, target.open("wb") as file:
        for piece in download.pieces():
            file.write(piece)
        return _positions(download.position)


def _totals(api: ClientHttp, wanted: dict[str, int]) -> dict[str, int] | None:
    """How many runs of each status lists say there are; None when one of them reflects something else than `wanted`."""
    found = {}
    for status in get_args(Status):
        answer = api.get(f"/api/v1/runs?{urlencode({'status': status, 'limit': 1})}")
        if _positions(answer.position) != wanted:
            return None
        found[status] = int(answer.value["total"])
    return found


def _positions(text: str) -> dict[str, int]:
    said = (part.strip().rpartition(":") for part in text.split(",") if part)
    return {worker: int(seq) for worker, _, seq in said if int(seq)}


def _runs_by_status(connection: duckdb.DuckDBPyConnection, export: Path) -> dict[str, int]:
    query = "SELECT status, count(*) FROM read_parquet(?) GROUP BY status"
    return dict(connection.execute(query, [str(export)]).fetchall())
