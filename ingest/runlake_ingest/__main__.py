"""`python -m runlake_ingest`: one ingest worker in the foreground."""

from __future__ import annotations

import argparse
import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Sequence

from runlake import settings as settings_module
from runlake.errors import AlreadyRunning, LakeError, SettingsError
from runlake.logs import Log
from runlake.servicemanager import ServiceManager
from runlake.strayvariables import stray_variables
from runlake_ingest.worker import Worker

_FIRST_RESTART_SECONDS = 0.2
_LAST_RESTART_SECONDS = 30.0
_FEW_DESCRIPTORS = 4_096
_TICK_S = 1.0
FLAGS = (
    "data", "ingest", "push", "feed", "metrics", "ingest_bind", "push_bind", "feed_bind", "keys", "catalog", "storage",
    "flush_interval_ms", "flush_messages", "journal_max_mb", "window_ids", "credit", "log_level",
    "maintenance_interval_ms", "maintenance_keep_s", "maintenance_merge_mb",
    "retention_days", "quarantine_days",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a worker until SIGTERM or SIGINT. Returns the exit status: 0 stopped, 1 cannot go on, 2 wrong settings."""
    parser = argparse.ArgumentParser(prog="runlake ingest", description="Take in messages, journal and store them.")
    settings_module.add_flags(parser, *FLAGS)
    try:
        settings = settings_module.from_arguments(parser.parse_args(arguments))
    except SettingsError as error:
        print(f"runlake ingest: {error}", file=sys.stderr)  # noqa: T201
        return 2
    log = Log("ingest", settings.log_level)
    for stray in stray_variables(os.environ):
        log.warning("stray_variable", reason=str(stray))
    return _Supervisor(settings, log).run()


class _Supervisor:
    """Runs workers, one after another: a journal that fails ends a worker, and the next one starts on a new segment."""

    def __init__(self, settings: settings_module.Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._manager = ServiceManager()
        self._stop = threading.Event()
        self._worker: Worker | None = None

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ask_to_stop())
        _raise_descriptor_limit(self._log)
        gc.disable()  # the hot path makes no cycles; a collection would walk every id of the dedupe window
        pause = _FIRST_RESTART_SECONDS
        while not self._stop.is_set():
            try:
                self._worker = Worker(self._settings, self._log, self._manager)
                if self._stop.is_set():  # asked while it was made
                    self._worker.stop()
                self._worker.run()
                return 0
            except (AlreadyRunning, SettingsError, LakeError) as error:
                self._log.error("cannot_run", reason=str(error))
                return 2 if isinstance(error, SettingsError) else 1
            except OSError as error:
                self._log.error("disk_failed", reason=str(error), restart_in_s=pause)
                self._manager.status(f"The disk failed, and is tried again: {error}")
            self._worker = None
            gc.collect()  # what the failed worker held, its window above all, is in cycles
            self._pause(pause)
            pause = min(pause * 2, _LAST_RESTART_SECONDS)
        return 0

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stop.wait(min(_TICK_S, max(0.0, end - time.monotonic()))) and time.monotonic() < end:
            self._manager.alive()

    def _ask_to_stop(self) -> None:
        self._stop.set()
        worker = self._worker
        if worker is not None:
            worker.stop()


def _raise_descriptor_limit(log: Log) -> None:
    """Every producer takes a descriptor, and ZeroMQ ends the process when they run out: take all that we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log.debug("descriptors", allowed=hard, before=soft)
    if hard < _FEW_DESCRIPTORS:
        log.warning("few_descriptors", allowed=hard, reason="each producer takes one; raise the limit (ulimit -Hn)")


if __name__ == "__main__":
    sys.exit(main())
