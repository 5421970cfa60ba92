"""Log records of the agent as events of the run that they were logged in."""

from __future__ import annotations

import logging
import traceback
from contextvars import ContextVar

from runlake.current import current
from runlake.interruption import pass_on
from runlake.plainvalue import MAX_DESCRIPTION_CHARS, cut, describe, type_name

MAX_MESSAGE_CHARS = 8_192
MAX_TRACE_CHARS = 16_384
MAX_RECORDS = 10_000
_OWN = "runlake"


class RunLogHandler(logging.Handler):
    """Records each log record as an event `log` of the current run: level, logger, message, and the exception if any.

        logging.getLogger().addHandler(runlake.RunLogHandler(logging.INFO))

    What is logged outside of runs, and by RunLake itself, is not recorded. A run takes `max_records`; how many more
    there were is an event `log_omitted` at its end. Texts are cut. It never raises and never logs.
    """

    def __init__(self, level: int | str = logging.NOTSET, max_records: int = MAX_RECORDS) -> None:
        super().__init__(level)
        self._max_records = max_records
        self._busy: ContextVar[bool] = ContextVar("runlake_logging", default=False)

    def emit(self, record: logging.LogRecord) -> None:
        """Record one log record."""
        run = current.get()
        if run is None or record.name == _OWN or record.name.startswith(f"{_OWN}.") or self._busy.get():
            return
        token = self._busy.set(True)  # an object in the message may log while it is turned into text
        try:
            payload = {"level": record.levelname, "logger": record.name, "message": _message(record)}
            if record.exc_info and record.exc_info[1] is not None:
                error = record.exc_info[1]
                payload["exception.type"] = type_name(error)
                payload["exception.message"] = cut(_text(error), MAX_DESCRIPTION_CHARS)
                payload["exception.stacktrace"] = _stacktrace(error)
            run.log_record(payload, self._max_records)
        except BaseException as error:  # noqa: BLE001 (logging must not hurt the agent)
            run.complain("RunLogHandler", error)
        finally:
            self._busy.reset(token)


def _message(record: logging.LogRecord) -> str:
    try:
        return cut(record.getMessage(), MAX_MESSAGE_CHARS)
    except BaseException as error:  # noqa: BLE001 (arguments that do not fit, objects of the agent's own)
        pass_on(error)
        return cut(f"{_text(record.msg)} % {describe(record.args)}", MAX_MESSAGE_CHARS)


def _text(value: object) -> str:
    try:
        return str(value)
    except BaseException as error:  # noqa: BLE001 (the agent's own object)
        pass_on(error)
        return describe(value)


def _stacktrace(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    if len(text) <= MAX_TRACE_CHARS:
        return text
    head = MAX_TRACE_CHARS // 4
    return f"{text[:head]}\n…\n{text[head + 3 - MAX_TRACE_CHARS :]}"
