"""Several workers on one lake for tests: a catalog in PostgreSQL, Parquet files in a folder, a data folder for each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from runlake.lake.attach import CATALOG, read_lake
from runlake.lake.members import Members
from runlake.lake.place import CatalogAddress, LakePlace
from support.processes import Process, Site


class Workers:
    """Makes sites whose workers share the lake, and runs `runlake workers`."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder = folder
        self.place = LakePlace(CatalogAddress(database), f"{folder / 'lake'}/")
        self._settings = {"RUNLAKE_CATALOG": database, "RUNLAKE_STORAGE": self.place.storage}

    def site(self, name: str) -> Site:
        """A data folder, and addresses, for a worker."""
        site = Site(self._folder / name)
        site.env |= self._settings
        return site

    def command(self, *arguments: str) -> Process:
        """`runlake workers …`, running."""
        return Process("runlake.cli", "workers", *arguments, env=self._settings, cwd=self._folder)

    def run(self, *arguments: str, crash_at: str = "", deadline_s: float = 120) -> subprocess.CompletedProcess[str]:
        """`runlake workers …` to its end."""
        more = {"RUNLAKE_CRASH_AT": crash_at} if crash_at else {}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("RUNLAKE_")}
        return subprocess.run(
            [sys.executable, "-m", "runlake.cli", "workers", *arguments],
            capture_output=True, text=True, env=inherited | self._settings | more, cwd=self._folder, timeout=deadline_s,
            check=False,
        )  # fmt: skip

    def change(self, *arguments: str) -> int:
        """Run a change to its end; returns the version of the list that is in force then."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return int(msgspec.json.decode(done.stdout)["version"])

    def version(self) -> int:
        """Of the list in force."""
        members = Members(self.place)
        try:
            return members.standing().active.version
        finally:
            members.close()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query on the lake answers; `{lake}` in it is the lake."""
        with read_lake(self.place) as connection:
            try:
                return connection.execute(query.format(lake=CATALOG)).fetchall()
            except duckdb.CatalogException:  # nothing has been written yet
                return []
