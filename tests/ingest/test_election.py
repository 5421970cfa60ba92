"""Which worker looks after the lake: one at a time, and another one when its lease is lost."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from runlake.errors import LakeUnavailable
from runlake.lake.place import CatalogAddress, LakePlace
from runlake.logs import Log
from runlake.wire import Member
from runlake_ingest.election import LockElection
from runlake_ingest.lease import Lease
from runlake_ingest.leasetoken import LeaseToken
from support.postgres import Postgres


def lease(database: str, folder: Path, number: int) -> Lease:
    folder.mkdir(exist_ok=True)
    member = Member(worker=UUID(int=number), endpoint="ipc:///x")
    return Lease(LakePlace(CatalogAddress(database), "/x/"), member, LeaseToken(folder), Log("test", "error"))


def test_one_worker_is_elected_until_it_lets_go_or_loses_its_lease(
    database: str, postgres: Postgres, tmp_path: Path
) -> None:
    leases = [lease(database, tmp_path / str(number), number) for number in (1, 2)]
    first, second = (LockElection(one, Log("test", "error")) for one in leases)
    assert first.win() and not second.win()
    first.release()
    assert second.win() and not first.win()
    postgres.rows(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND application_name = %s",
        database.rpartition("/")[2], f"runlake lease {UUID(int=2)}",
    )  # fmt: skip
    assert first.win()
    with pytest.raises(LakeUnavailable):
        second.win()
    assert not second.win()
    second.release()
    for one in leases:
        one.close()
