"""`python -m runlake.cli`, the same as `runlake`."""

from __future__ import annotations

import sys

from runlake.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
