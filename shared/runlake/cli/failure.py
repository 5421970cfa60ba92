"""How a command ends when it cannot do what it was asked."""

from __future__ import annotations

FAILED = 1
USAGE = 2


class CommandFailed(Exception):  # noqa: N818 (named by what it says)
    """A command cannot go on. `message` is one line for people, which says what to do; `code` is the exit status."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
