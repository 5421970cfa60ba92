"""Where every `runlake …` begins: reads the command line, runs the subcommand, and turns failures into one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from runlake.cli import (
    backup,
    commits,
    demo,
    doctor,
    export,
    foreground,
    forget,
    import_sqlite,
    init,
    keys,
    maintain,
    prices,
    probe,
    producers,
    quarantine,
    rebuild,
    replay,
    reprice,
    rollup,
    runs,
    spool,
    sql,
    tail,
    up,
    verify,
    workers,
)
from runlake.cli.failure import FAILED, USAGE, CommandFailed
from runlake.errors import RunLakeError, SettingsError
from runlake.strayvariables import stray_variables

_DESCRIPTION = "RunLake records what agents do, and answers questions about it."
_EPILOG = """\
first steps:
  runlake up                 start RunLake here (Ctrl-C stops it)
  runlake demo               in a second terminal: record real work
  runlake runs               what was recorded, newest first
  runlake tail               what happens now
  runlake rollup --by agent_name --bucket day --since 7d
  runlake doctor             what is wrong, and how to fix it

Settings come from flags, RUNLAKE_* variables, runlake.toml, then defaults.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name; by default this process's). Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and arguments[0] in foreground.PROCESSES:
            return foreground.replace_this_process(arguments[0], arguments[1:])
        chosen = _parser().parse_args(arguments)
        for stray in stray_variables(os.environ):
            print(f"runlake: {stray}", file=sys.stderr)
        return int(chosen.run(chosen))
    except CommandFailed as failure:
        return _fail(failure.message, failure.code)
    except SettingsError as error:
        return _fail(str(error), USAGE)
    except RunLakeError as error:
        return _fail(str(error), FAILED)
    except BrokenPipeError:  # `runlake runs | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return _fail("stopped", 130)


def _fail(message: str, code: int) -> int:
    print(f"runlake: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runlake",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"runlake {version('runlake')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (
        up,
        foreground,
        demo,
        runs,
        tail,
        rollup,
        commits,
        producers,
        quarantine,
        prices,
        reprice,
        sql,
        export,
        import_sqlite,
        spool,
        maintain,
        forget,
        backup,
        replay,
        rebuild,
        verify,
        workers,
        doctor,
        init,
        keys,
        probe,
    ):
        module.add_to(commands)
    return parser
