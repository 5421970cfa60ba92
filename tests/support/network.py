"""Hosts on a network of their own: each a network namespace with an address, on one switch, with a cable to pull.

The switch is a bridge in a namespace too. This machine has one leg on it, and its address there is `Network.own`.
Nothing of it outlives the process that made it. Only root can, and not in every container: see `Network.trouble`.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

_TIMEOUT_S = 20.0


class Namespace:
    """A network namespace that lasts as long as the process that holds it, or we."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n", "no network namespace can be made here"

    @property
    def pid(self) -> int:
        return self._holder.pid

    @property
    def prefix(self) -> tuple[str, ...]:
        """What starts a process in it. The process takes the place of this command, and keeps its number."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net", "--")

    def close(self) -> None:
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait(_TIMEOUT_S)
        self._holder.stdout.close()


class Host:
    """A machine of its own, as far as the network goes."""

    def __init__(self, network: Network, number: int) -> None:
        self.address = network.address(number)
        self._switch = network.switch
        self._port = f"p{number}"
        self._namespace = Namespace()
        _ip(f"link add {self._port} netns {self._switch.pid} type veth peer name eth0 netns {self._namespace.pid}")
        _ip(f"link set {self._port} master br0 up", self._switch)
        _ip(f"address add {self.address}/24 dev eth0", self._namespace)
        _ip("link set eth0 up", self._namespace)

    @property
    def prefix(self) -> tuple[str, ...]:
        """What starts a process on it."""
        return self._namespace.prefix

    def cut(self) -> None:
        """Pull its cable: from now on nothing gets through, and nobody is told."""
        _ip(f"link set {self._port} down", self._switch)

    def mend(self) -> None:
        _ip(f"link set {self._port} up", self._switch)

    def close(self) -> None:
        self._namespace.close()


class Network:
    """Use as a context manager; what runs on its hosts is to be ended before it ends."""

    def __init__(self) -> None:
        number = os.getpid()
        self._subnet = f"10.{64 + number // 256 % 64}.{number % 256}"
        self._leg = f"rl{number}"
        self._numbers = itertools.count(10)
        self._hosts: list[Host] = []
        self.own = self.address(1)

    @staticmethod
    def trouble() -> str:
        """Why there can be none here, or ""."""
        for command in ("ip", "unshare", "nsenter"):
            if shutil.which(command) is None:
                return f"{command} is not installed"
        if os.geteuid() != 0:
            return "network namespaces need root"
        script = "ip link add t0 type bridge && ip link add t1 type veth peer name t2"
        done = subprocess.run(
            ["unshare", "--net", "sh", "-ec", script], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        return "" if done.returncode == 0 else f"network namespaces are not allowed here: {done.stderr.strip()}"

    @property
    def subnet(self) -> str:
        return f"{self._subnet}.0/24"

    def address(self, number: int) -> str:
        return f"{self._subnet}.{number}"

    def add_host(self) -> Host:
        host = Host(self, next(self._numbers))
        self._hosts.append(host)
        return host

    def __enter__(self) -> Self:
        self.switch = Namespace()
        _ip("link add br0 type bridge", self.switch)
        _ip("link set br0 up", self.switch)
        _ip(f"link add p1 netns {self.switch.pid} type veth peer name {self._leg}")
        _ip("link set p1 master br0 up", self.switch)
        _ip(f"address add {self.own}/24 dev {self._leg}")
        _ip(f"link set {self._leg} up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in self._hosts:
            host.close()
        _ip(f"link delete {self._leg}")
        self.switch.close()


def _ip(command: str, where: Namespace | None = None) -> None:
    prefix = where.prefix if where is not None else ()
    subprocess.run([*prefix, "ip", *command.split()], check=True, timeout=_TIMEOUT_S)
