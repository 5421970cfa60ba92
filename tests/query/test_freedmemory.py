"""Memory that was freed is there for the next query without a fault of each page."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
from runlake_query.freedmemory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(200_000) for _ in range(100)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "kept":
    keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one than glibc")
def test_what_was_freed_is_taken_again_without_faults() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    pages = 20_000_000 // resource.getpagesize()
    assert faults("given back") > pages * 0.8
    assert faults("kept") < pages * 0.1
