"""The logging handler: records of the current run become its events, and nothing comes back at the agent."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import runlake
from support.recorder import Recorder


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path)
    yield recorder
    recorder.messages()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("agent.under.test")
    logger.setLevel(logging.DEBUG)
    handler = runlake.RunLogHandler(logging.INFO, max_records=100)
    logger.addHandler(handler)
    own = logging.getLogger("runlake")
    own.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    own.removeHandler(handler)


def test_log_records_of_the_current_run_become_its_events(recorder: Recorder, logger: logging.Logger) -> None:
    logger.info("outside of any run")
    with runlake.track_run("a", "b", emitter=recorder.emitter):
        logger.debug("below the level")
        logger.info("read %d pages", 3)
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("it failed")
    first, second = recorder.events("log")
    assert first == {"level": "INFO", "logger": "agent.under.test", "message": "read 3 pages"}
    assert (second["level"], second["message"]) == ("ERROR", "it failed")
    assert (second["exception.type"], second["exception.message"]) == ("ValueError", "no")
    assert "Traceback" in second["exception.stacktrace"]


def test_what_runlake_logs_itself_is_not_recorded_and_cannot_recurse(
    recorder: Recorder, logger: logging.Logger
) -> None:
    shown = []

    class Chatty:
        def __str__(self) -> str:
            shown.append(self)
            logger.info("I am being shown")
            return "chatty"

    with runlake.track_run("a", "b", emitter=recorder.emitter):
        logging.getLogger("runlake").warning("of our own")
        logging.getLogger("runlake.part").warning("of our own")
        logger.info("%s", Chatty())
    messages = [event["message"] for event in recorder.events("log")]
    assert messages.count("chatty") == 1
    assert messages.count("I am being shown") == len(shown) - 1  # pytest's handlers show it too
    assert len(messages) == len(shown)


def test_records_are_bounded_in_size_and_number_and_what_was_left_out_is_said(
    recorder: Recorder, logger: logging.Logger
) -> None:
    with runlake.track_run("a", "b", emitter=recorder.emitter):
        for number in range(250):
            logger.info("x" * 100_000 if number == 0 else str(number))
    events = recorder.events("log")
    assert len(events) == 100
    assert events[0]["message"].endswith("…")
    assert len(events[0]["message"]) < 10_000
    assert recorder.events("log_omitted") == [{"records": 150}]


def test_records_that_cannot_be_formatted_neither_raise_nor_print(
    recorder: Recorder, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    handler = runlake.RunLogHandler()
    with runlake.track_run("a", "b", emitter=recorder.emitter):
        for message, arguments in (("%d pages", ("three",)), ("%s", (Bad(),)), (Bad(), ())):
            handler.handle(logging.LogRecord("l", logging.INFO, __file__, 1, message, arguments, None))
        try:
            raise ExceptionGroup("many", [ValueError(Bad())])
        except ExceptionGroup:
            handler.handle(logging.LogRecord("l", logging.ERROR, __file__, 1, "e", (), sys.exc_info()))
    messages = [event["message"] for event in recorder.events("log")]
    assert messages == ["%d pages % ('three',)", "%s % <tuple>", "<Bad> % ()", "e"]
    assert capsys.readouterr().err == ""
