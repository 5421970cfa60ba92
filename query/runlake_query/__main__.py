"""`python -m runlake_query`: one query process in the foreground. The wiring of its parts, and their end."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import uvloop
from aiohttp import web

from runlake.curve import ClientKeys
from runlake.errors import AlreadyRunning, LakeError, SettingsError
from runlake.ids import Uuid7Source
from runlake.logs import Log
from runlake.servicemanager import ServiceManager
from runlake.settings import Settings, add_flags, from_arguments, host_and_port
from runlake.strayvariables import stray_variables
from runlake_query.auth import Auth
from runlake_query.bulk import READ_DEADLINE_S, THREADS, WAITING, Bulk
from runlake_query.copies import Copies
from runlake_query.cors import Cors
from runlake_query.feedlink import FeedLink
from runlake_query.folder import Folder
from runlake_query.follower import Follower
from runlake_query.freedmemory import keep_freed_memory
from runlake_query.gateway import Gateway
from runlake_query.hosts import Hosts
from runlake_query.knownruns import KnownRuns
from runlake_query.lakereach import LakeReach
from runlake_query.lifesigns import LifeSigns
from runlake_query.live import Live
from runlake_query.model import open_model
from runlake_query.points import Points
from runlake_query.progress import Progress
from runlake_query.promises import Promises
from runlake_query.reader import Reader
from runlake_query.recent import Recent
from runlake_query.runner import ProblemRunner
from runlake_query.server import Server
from runlake_query.sql.sandboxes import Bounds
from runlake_query.sql.service import default_threads
from runlake_query.staleclock import StaleClock
from runlake_query.subscribers import Subscribers

_FLAGS = (
    "data",
    "http",
    "ingest",
    "token_file",
    "token_scope",
    "cors_origins",
    "hosts",
    "feed",
    "catalog",
    "storage",
    "keys",
    "server_key",
    "client_key",
    "read_model",
    "refresh_ms",
    "recent_days",
    "sql",
    "sql_timeout_ms",
    "sql_memory_mb",
    "log_level",
)
_SHUTDOWN_S = 5.0
_SWITCH_S = 0.0005
"""How long a thread may keep the interpreter while the event loop waits for it; Python's default is ten times that."""

_YOUNG_OBJECTS = 10_000
"""After how many new objects the collector looks at them: a fraction of a millisecond at a time."""
_YOUNGER = 20
"""How often it looks at these before it looks at those that stayed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Exit status: 0 stopped, 1 cannot run, 2 a setting is wrong."""
    parser = argparse.ArgumentParser(prog="runlake query", description="Serve the HTTP API from the lake.")
    add_flags(parser, *_FLAGS)
    try:
        settings = from_arguments(parser.parse_args(argv))
        keys = settings.client_keys
    except SettingsError as error:
        print(f"runlake query: {error}", file=sys.stderr)  # noqa: T201 (for the person who started it)
        return 2
    try:
        log = Log("query", settings.log_level)
        for stray in stray_variables(os.environ):
            log.warning("stray_variable", reason=str(stray))
        sys.setswitchinterval(_SWITCH_S)
        keep_freed_memory()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(settings, keys, log))
    except (AlreadyRunning, LakeError, OSError) as error:
        print(f"runlake query: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def _serve(settings: Settings, keys: ClientKeys | None, log: Log) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    damaged = asyncio.Event()

    def on_damage() -> None:
        loop.call_soon_threadsafe(damaged.set)
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    auth = Auth(settings.token, settings.read_token, settings.token_scope)
    window = timedelta(days=settings.recent_days)
    manager = ServiceManager()
    folder = Folder(settings.read_model)
    if folder.killed_before:
        log.warning("killed_before", pid=folder.killed_before)
    try:
        model = await asyncio.to_thread(open_model, folder, _utcnow() - window, log)
        copies = Copies(folder, model.cursor())
        feed = FeedLink(settings.feed, keys)
        progress = Progress(feeds=len(feed.endpoints))
        lake = LakeReach(settings.lake, progress)
        reader = Reader(model, copies, lake=lake)
        bulk_reader = Reader(model, copies, THREADS, WAITING, READ_DEADLINE_S, lake=lake)
        recent = Recent()
        known = KnownRuns(model, log)
        stale_clock = StaleClock(progress, _utcnow)
        promises = Promises()
        subscribers = Subscribers(stale_clock.now)
        follower = Follower(
            place=settings.lake,
            folder=folder,
            model=model,
            copies=copies,
            progress=progress,
            log=log,
            refresh_s=settings.refresh_ms / 1000,
            window=window,
            utcnow=_utcnow,
            on_damage=on_damage,
            feed=feed,
            changes=Live(recent, subscribers, known, promises),
        )
        points = Points(model, progress, recent, known)
        gateway = Gateway(
            settings.ingest,
            f"http-{Uuid7Source()()}",
            log,
            keys=keys,
            on_workers=progress.expect,
        )
        runner = ProblemRunner(
            Server(
                reader,
                points,
                progress,
                gateway,
                log,
                _utcnow,
                subscribers=subscribers,
                promises=promises,
                stale_clock=stale_clock,
                bulk=Bulk(
                    bulk_reader,
                    settings.read_model,
                    settings.lake.storage_folder,
                    settings.sql == "on",
                    Bounds(
                        memory_mib=settings.sql_memory_mb,
                        spill_mib=2 * settings.sql_memory_mb,
                        threads=default_threads(),
                        deadline_s=settings.sql_timeout_ms / 1000,
                    ),
                ),
                auth=auth,
                hosts=Hosts([socket.gethostname()], listed=settings.hosts.split(","), guarded=auth.guards_all),
                cors=Cors(settings.cors_origins),
            ).app(),
            shutdown_timeout=_SHUTDOWN_S,
        )
        try:
            gateway.start()
            await runner.setup()
            host, port = host_and_port(settings.http)
            site = web.TCPSite(runner, host, port)
            await site.start()
            follower.start()
            _settle_collector()
            log.info("listening", http=_bound(runner, host))
            signs = LifeSigns(manager, progress, log)
            signs.start()
            await stop.wait()
            log.info("stopping")
            signs.stop()
        finally:
            await runner.cleanup()
            await gateway.close()
            await asyncio.to_thread(follower.stop)
            if follower.is_stuck:  # as a kill would, which is safe: the next start goes on from what is on disk
                log.warning("stopped_at_once", reason=f"The catalog {settings.lake.told} does not answer.")
                os._exit(0)
            await asyncio.to_thread(known.close)
            await asyncio.to_thread(points.close)
            await asyncio.to_thread(reader.close)
            await asyncio.to_thread(bulk_reader.close)
            if not damaged.is_set():
                await asyncio.to_thread(copies.close)
            await asyncio.to_thread(model.close)
    finally:
        folder.close()
    log.info("stopped")
    return 1 if damaged.is_set() else 0


def _settle_collector() -> None:
    """Of what was made to start, nothing is ever garbage: it need not be looked at again. Few requests make cycles, so
    that looking for them after every 700 objects, as Python does, finds nothing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _YOUNGER, _YOUNGER)


def _utcnow() -> datetime:
    return datetime.now(UTC)


def _bound(runner: web.AppRunner, host: str) -> str:
    """host:port as bound, which tells the port when 0 was asked for."""
    port = runner.addresses[0][1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
