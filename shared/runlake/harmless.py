"""Methods that an agent calls and that never hurt it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar


class Complaining(Protocol):
    """Takes note of what went wrong in one of its methods."""

    def complain(self, what: str, error: BaseException) -> None: ...


S = TypeVar("S", bound=Complaining)
P = ParamSpec("P")
R = TypeVar("R")


def harmless(what: str, otherwise: R) -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """A method that returns `otherwise` when something goes wrong in it, after `complain`; but for an interruption of
    the agent, which `complain` raises. `what`: the method's name for people."""

    def decorate(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        @wraps(method)
        def harmless_method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return method(self, *args, **kwargs)
            except BaseException as error:  # noqa: BLE001 (the agent goes on unrecorded)
                try:
                    self.complain(what, error)
                except Exception:  # noqa: BLE001 (the stack is full: not one more call is possible)
                    return otherwise
                return otherwise

        return harmless_method

    return decorate
