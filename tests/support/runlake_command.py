"""The `runlake` command as a test runs it, on addresses and in a folder of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.processes import Process, wait_until


class Command:
    """Runs `runlake …` with the settings of one folder. While `up` runs, `http` is where the API is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.http = "127.0.0.1:0"
        self.more: dict[str, str] = {}
        """Variables besides those of `settings`, for what is run from now on."""

    @property
    def settings(self) -> dict[str, str]:
        return {
            "RUNLAKE_DATA": str(self.data),
            "RUNLAKE_HTTP": self.http,
            "RUNLAKE_METRICS": "127.0.0.1:0",
            "RUNLAKE_INGEST": f"ipc://{self.folder}/i",
            "RUNLAKE_PUSH": f"ipc://{self.folder}/p",
            "RUNLAKE_FEED": f"ipc://{self.folder}/f",
        }

    @property
    def environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("RUNLAKE_")}
        return inherited | self.settings | self.more

    def __call__(self, *arguments: str, deadline_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "runlake.cli", *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            timeout=deadline_s,
            check=False,
        )

    @contextmanager
    def up(self, env: Mapping[str, str] | None = None) -> Iterator[Process]:
        """`runlake up --json-logs`, from ready until SIGTERM."""
        self.http = "127.0.0.1:0"
        with Process("runlake.cli", "up", "--json-logs", env=self.settings | dict(env or {}), cwd=self.folder) as up:
            wait_until(
                lambda: any(line.get("process") == "up" and line["event"] == "ready" for line in up.log),
                "RunLake to be ready",
            )
            self.http = up.wait_for("listening")["http"]
            yield up
            up.terminate()
