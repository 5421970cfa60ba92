"""`scripts/bench [--short] [--list] [NAME …]`."""

from __future__ import annotations

import argparse
import os
import tempfile

from benchmarks import (
    apply,
    away,
    cluster,
    curve,
    dashboard,
    emit,
    freshness,
    history,
    http,
    ingest,
    soak,
    streams,
    track,
)

BENCHMARKS = {
    "emit": emit.run,
    "track": track.run,
    "ingest": ingest.run,
    "apply": apply.run,
    "freshness": freshness.run,
    "http": http.run,
    "history": history.run,
    "dashboard": dashboard.run,
    "streams": streams.run,
    "soak": soak.run,
    "away": away.run,
    "curve": curve.run,
    "cluster": cluster.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Print one JSON line per measured figure.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--short", action="store_true", help="a quick form, to see that it works")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and end")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; known are {', '.join(BENCHMARKS)}")
    if options.list:
        print("\n".join(BENCHMARKS))
        return
    with tempfile.TemporaryDirectory(prefix="runlake-bench-") as folder:
        os.environ["XDG_STATE_HOME"] = folder  # the spools of what is measured are not among the user's own
        for name in options.names or BENCHMARKS:
            BENCHMARKS[name](options.short)


if __name__ == "__main__":
    main()
