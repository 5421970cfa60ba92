"""The `runlake` command. One file per subcommand; what the files share is beside them.

Exit status: 0 when all is well, 1 when something is not, 2 for a wrong flag or setting.
"""

from __future__ import annotations

from runlake.cli.entry import main

__all__ = ["main"]
