"""How a run ended, from the exception that left its block, or none."""

from __future__ import annotations

from typing import NamedTuple

from runlake.interruption import pass_on
from runlake.messages import MAX_TEXT_CHARS, Status
from runlake.plain import CUT, cut

MAX_SUMMARY_CHARS = 2_000


class Outcome(NamedTuple):
    status: Status
    error_summary: str | None = None
    error_details: str | None = None


ENDED_WELL = Outcome("success")


def outcome_of(error: BaseException | None) -> Outcome:
    """The status and error texts that an exception means. An orderly exit of the program is a success."""
    match error:
        case None:
            return ENDED_WELL
        case SystemExit(code=None | 0):
            return ENDED_WELL
        case TimeoutError():
            return Outcome("timeout", _summary(error), _details(error))
        case KeyboardInterrupt() | GeneratorExit():
            return Outcome("cancelled", _summary(error))
    if any(
        kind.__name__ == "CancelledError" for kind in type(error).__mro__
    ):  # asyncio's, futures'; without loading them
        return Outcome("cancelled", _summary(error))
    return Outcome("failure", _summary(error), _details(error))


def _summary(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as problem:  # noqa: BLE001 (the agent's own exception)
        pass_on(problem)
        text = ""
    return cut(f"{name}: {text}" if text else name, MAX_SUMMARY_CHARS)


def _details(error: BaseException) -> str | None:
    try:
        import traceback  # noqa: PLC0415 (a run that goes well does without it)

        text = "".join(traceback.format_exception(error))
    except BaseException as problem:  # noqa: BLE001 (the agent's own exception)
        pass_on(problem)
        return None
    if len(text) <= MAX_TEXT_CHARS:
        return text
    head = MAX_TEXT_CHARS // 4
    return text[:head] + f"\n{CUT}\n" + text[head + len(CUT) + 2 - MAX_TEXT_CHARS :]
