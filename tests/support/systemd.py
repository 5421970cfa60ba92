"""A systemd of a test's own: the real one, as the first process of namespaces of its own, without the machine's units.

The machine's /etc, /var and /run are not touched: what is written there is gone with the namespaces. The network is a
loopback of its own, with every port free.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self
from uuid import uuid4

from support.identities import show_hidden
from support.processes import wait_until

_SYSTEMD = Path("/lib/systemd/systemd")
_TARGETS = ("basic", "default", "multi-user", "shutdown", "sysinit", "umount")
_BOOT = """
{show_hidden}
umount --lazy /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /media
for folder in etc var; do
  mkdir -p /media/$folder/upper /media/$folder/work
  mount -t overlay none -o lowerdir=/$folder,upperdir=/media/$folder/upper,workdir=/media/$folder/work /$folder
done
mount -t tmpfs -o mode=755 none /run
rm -rf /etc/systemd/system
mkdir -p /etc/systemd/system /run/units
for name in {targets}; do printf '[Unit]\\nDefaultDependencies=no\\n' > /run/units/$name.target; done
export container=test SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/units SYSTEMD_LOG_TARGET=console
exec {systemd} --system
"""


def missing() -> str:
    """Why there can be none here; "" when there can."""
    if os.geteuid() != 0:
        return "only root can start a systemd"
    if not _SYSTEMD.exists() or shutil.which("systemctl") is None:
        return "needs Debian's package systemd"
    return "" if _control_groups() else "needs control groups of version 2 that can be written"


def _control_groups() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(where, os.W_OK):
            return Path(where)
    return None


class Systemd:
    """Use as a context manager, and only when nothing is `missing`."""

    def __init__(self, log: Path) -> None:
        groups = _control_groups()
        assert groups is not None
        self._group = groups / f"runlake-test-{uuid4()}"
        self._group.mkdir()
        boot = _BOOT.format(show_hidden=show_hidden(), targets=" ".join(_TARGETS), systemd=_SYSTEMD)
        enter = 'echo $$ > "$0/cgroup.procs"; exec unshare --mount --propagation private --pid --fork --mount-proc'
        enter += ' --cgroup --net --ipc --uts bash -ec "$1"'
        with log.open("wb") as out:
            self._process = subprocess.Popen(["bash", "-ec", enter, str(self._group), boot], stdout=out, stderr=out)
        self._pid = 0

    def __enter__(self) -> Self:
        wait_until(self._has_begun, "systemd to answer")
        return self

    def __exit__(self, *_: object) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)  # and with it all that is in its namespace
        else:
            self._process.kill()
        self._process.wait(30)
        wait_until(self._is_cleared, "its control groups to be empty")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside it, in its namespaces, to its end."""
        enter = ["nsenter", "--target", str(self._pid), "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, check=False, timeout=120, cwd="/")

    def ok(self, *command: str) -> str:
        """The same, for a command that must not fail: what it prints."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def shows(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.ok("systemctl", "show", "--property", name, "--value", unit).strip()

    def _has_begun(self) -> bool:
        assert self._process.poll() is None, "systemd has ended"
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return False
        self._pid = int(children[0])
        return self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded", "starting")

    def _is_cleared(self) -> bool:
        for folder, _, _ in os.walk(self._group, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()
        return not self._group.exists()
