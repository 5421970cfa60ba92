"""Every exception of RunLake, named by what the caller should do next.

RunLakeError
├── SettingsError        fix the setting that the message names
├── InvalidMessage       fix the field that it names; sending it again will not help
├── InvalidPrices        fix the entry of the price list that it names
├── WireError            the other side speaks another protocol or version
├── LakeError            the lake cannot be used as it is; the message says what to do
│   └── LakeUnavailable  try again later: another program holds the catalog, or storage is away
│       └── NoLakeYet    start the ingest worker, which makes it
├── AlreadyRunning       another process owns this data folder
└── ApiError             what `runlake.connect` gives: a question was not answered
    ├── ApiUnreachable   start RunLake, or mend the address
    ├── ApiBusy          try again later: it is starting, busy, or was asked for too much
    └── ApiRefused       mend the question; the message names what is wrong
"""

from __future__ import annotations


class RunLakeError(Exception):
    """Base of every error that RunLake raises on purpose."""


class SettingsError(RunLakeError):
    """A setting has a value that cannot be used. Names the key, the value and what is allowed."""


class InvalidMessage(RunLakeError):  # noqa: N818 (named by what it says, as are its siblings)
    """A message cannot be accepted.

    `reason` is a plain sentence; `field` is the name of the field at fault, or None when there is no single one.
    """

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


class InvalidPrices(RunLakeError):  # noqa: N818
    """A price list cannot be used. Names the list, the entry, the key and what is allowed."""


class WireError(RunLakeError):
    """What arrived is not of this protocol, or of a version that this side does not speak."""


class LakeError(RunLakeError):
    """The lake cannot be used as it is."""


class LakeUnavailable(LakeError):  # noqa: N818
    """The lake cannot be reached now. Waiting and trying again is the right answer."""


class NoLakeYet(LakeUnavailable):
    """There is no lake in the place that the settings name."""


class AlreadyRunning(RunLakeError):  # noqa: N818
    """Another process owns this folder."""


class ApiError(RunLakeError):
    """The HTTP API did not answer a question of a client."""


class ApiUnreachable(ApiError):  # noqa: N818
    """Nothing answers there, or the answer broke off."""


class ApiBusy(ApiError):  # noqa: N818
    """Not now (429, 503)."""


class ApiRefused(ApiError):  # noqa: N818
    """Not like this; `status` is that of HTTP."""

    def __init__(self, detail: str, status: int = 0) -> None:
        super().__init__(detail)
        self.status = status
