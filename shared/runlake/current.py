"""The run that the calling code is in, and how it is carried into threads.

It is known by a context variable: tasks inherit it, a new thread begins without. `wrap` takes it along, and no other
variable of the context.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from runlake.tracking import Run

P = ParamSpec("P")
R = TypeVar("R")

current: ContextVar[Run | None] = ContextVar("runlake_run", default=None)


def current_run() -> Run | None:
    """The run that the calling code is in, or None."""
    return current.get()


def wrap(function: Callable[P, R]) -> Callable[P, R]:
    """The function, to be called in another thread, in the run that is the current one now.

    For `threading.Thread(target=wrap(work))`, `pool.submit(wrap(work), …)`, callbacks. Tasks of asyncio and
    `asyncio.to_thread` need it not.
    """
    run = current.get()

    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        token = current.set(run)
        try:
            return function(*args, **kwargs)
        finally:
            current.reset(token)

    return carried
