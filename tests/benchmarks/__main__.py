"""`scripts/bench [--short] [--list] [NAME …]`."""

from __future__ import annotations

import argparse

from benchmarks import emit, freshness, http, ingest

BENCHMARKS = {"emit": emit.run, "ingest": ingest.run, "freshness": freshness.run, "http": http.run}


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
    for name in options.names or BENCHMARKS:
        BENCHMARKS[name](options.short)


if __name__ == "__main__":
    main()
