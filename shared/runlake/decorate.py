"""Functions whose every call is a run of its own.

A generator's run is the current one only while the generator's own code runs: between two items the caller is where it
was. It begins with the first item asked for, and ends with the generator: `cancelled` when it is closed early.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from runlake.current import current

if TYPE_CHECKING:
    from runlake.tracking import Run

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")


def decorated(told: Run, function: F) -> F:
    """The function, recorded. What is no function is returned as it is."""
    if isinstance(function, staticmethod | classmethod):
        return cast(F, type(function)(decorated(told, function.__func__)))
    if not callable(function) or isinstance(function, type):
        return function
    if inspect.isasyncgenfunction(function):
        return cast(F, wraps(function)(_async_generator(told, function)))
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            return (yield from _driven(told.again(), function(*args, **kwargs)))

        return cast(F, generator)
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with told.again():
                return await cast(Awaitable[Any], function(*args, **kwargs))

        return cast(F, coroutine)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with told.again():
            return function(*args, **kwargs)

    return cast(F, call)


def _driven(run: Run, inner: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
    """The generator's items; the run is current while they are made."""
    step: Callable[[Any], Any] = inner.send
    value: Any = None
    begun = False
    try:
        while True:
            outside = current.get()
            if begun:
                current.set(run)
            else:
                run.__enter__()
                begun = True
            try:
                item = step(value)
            except StopIteration as end:
                run.finish(None)
                return cast(R, end.value)
            finally:
                current.set(outside)
            try:
                value = yield item
                step = inner.send
            except GeneratorExit:
                _close(run, inner)
                raise
            except BaseException as error:  # noqa: BLE001 (thrown in by the caller: the agent's to handle)
                value, step = error, inner.throw
    except BaseException as error:
        run.finish(error)
        raise


def _close(run: Run, inner: Generator[Any, Any, Any]) -> None:
    """Let the agent's code clean up, in its run."""
    outside = current.get()
    current.set(run)
    try:
        inner.close()
    finally:
        current.set(outside)


def _async_generator(told: Run, function: Callable[..., AsyncGenerator[Any, Any]]) -> Callable[..., Any]:
    """`_driven`, for those that await: it cannot be delegated to, so it is the function itself."""

    async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        run, inner = told.again(), function(*args, **kwargs)
        step: Callable[[Any], Awaitable[Any]] = inner.asend
        value: Any = None
        begun = False
        try:
            while True:
                outside = current.get()
                if begun:
                    current.set(run)
                else:
                    run.__enter__()
                    begun = True
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    run.finish(None)
                    return
                finally:
                    current.set(outside)
                try:
                    value = yield item
                    step = inner.asend
                except GeneratorExit:
                    outside = current.get()
                    current.set(run)
                    try:
                        await inner.aclose()
                    finally:
                        current.set(outside)
                    raise
                except BaseException as error:  # noqa: BLE001 (thrown in by the caller: the agent's to handle)
                    value, step = error, inner.athrow
        except BaseException as error:
            run.finish(error)
            raise

    return async_generator
