"""An executor whose threads work in the run that was current when the work was submitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from runlake.current import wrap

P = ParamSpec("P")
R = TypeVar("R")


class CarryingExecutor(Executor):
    """Hands work on to another executor of threads: `with CarryingExecutor(ThreadPoolExecutor()) as pool:`.

    Shutting it down shuts the other down. For processes use `run.environ()`.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have the function called in the run that is current here."""
        return self._executor.submit(wrap(fn), *args, **kwargs)

    def map(
        self, fn: Callable[..., R], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[R]:
        """As `Executor.map`, in the run that is current here."""
        return self._executor.map(wrap(fn), *iterables, timeout=timeout, chunksize=chunksize)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the other executor down."""
        self._executor.shutdown(wait, cancel_futures=cancel_futures)
