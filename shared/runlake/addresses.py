"""Which addresses only this machine can reach."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(address: str) -> bool:
    """Whether `host:port`, `tcp://host:port` or `ipc://path` can be reached from this machine alone."""
    if address.startswith("ipc://"):
        return True
    try:
        host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
        if host == "localhost":
            return True
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def beyond_loopback(endpoints: str) -> list[str]:
    """Of endpoints separated by commas, those that other machines may answer at, or reach."""
    return [endpoint for part in endpoints.split(",") if (endpoint := part.strip()) and not is_loopback(endpoint)]
