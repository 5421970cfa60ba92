"""`runlake demo`: agents that do real work on this machine, and are recorded while they do it.

Several processes walk a source tree and measure every file in it, one walks a git repository. Each counts for itself
what it did; at the end their books are compared with what the API says.
"""

from __future__ import annotations

from runlake.cli.demo.command import add_to

__all__ = ["add_to"]
