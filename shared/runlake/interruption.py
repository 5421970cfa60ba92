"""Telling an interruption of the agent from what one of the agent's objects raises while it is looked at.

A payload's `__repr__` may raise anything, SystemExit and KeyboardInterrupt too: that is the object's own, and must not
end the agent. Ctrl-C, or a signal handler that calls `sys.exit`, may come in the middle of the same `__repr__`: that is
the agent's, and must not be held up. The traceback tells them apart:

- It passes through a function that is a signal's handler now: an interruption.
- The innermost frame stands at a `raise`: the object's own. Python's own handler of SIGINT has no frame, and comes
  between two instructions, or out of a call that the signal ended; never out of a `raise`.
- Any other KeyboardInterrupt: an interruption, since nothing else in C raises it.
- Any other exception, between two instructions: one that another thread has set (`PyThreadState_SetAsyncExc`): an
  interruption. Out of an instruction that can fail: the object's own, `sys.exit()` in it, or a panic of an extension.
"""

from __future__ import annotations

from types import CodeType, TracebackType

_BETWEEN = frozenset(("RESUME", "JUMP_BACKWARD"))
_RAISES = frozenset(("RAISE_VARARGS", "RERAISE"))


def pass_on(error: BaseException) -> None:
    """Raise it again if it is an interruption; else return, for the caller to go on without the object."""
    if not isinstance(error, Exception) and is_interruption(error):
        raise error


def is_interruption(error: BaseException) -> bool:
    """Whether a caught exception is meant for the agent."""
    handlers = _handlers()
    step: TracebackType | None = error.__traceback__
    last = step
    while step is not None:
        if step.tb_frame.f_code in handlers:
            return True
        last, step = step, step.tb_next
    if last is None:
        return True
    at = _instruction(last)
    return at not in _RAISES and (isinstance(error, KeyboardInterrupt) or at in _BETWEEN)


def _instruction(step: TracebackType) -> str:
    import dis  # noqa: PLC0415 (nearly no agent needs it)

    return dis.opname[step.tb_frame.f_code.co_code[step.tb_lasti]]


def _handlers() -> set[CodeType]:
    import signal  # noqa: PLC0415

    found: set[CodeType] = set()
    for number in signal.valid_signals():
        handler: object = signal.getsignal(number)
        handler = getattr(handler, "func", handler)  # a functools.partial, as asyncio has one
        for function in (handler, getattr(type(handler), "__call__", None)):  # noqa: B004 (its code is looked at)
            code = getattr(function, "__code__", None)
            if isinstance(code, CodeType):
                found.add(code)
    return found
