"""The thread that asks the lake about late messages, so that batches without any overtake those that wait."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import closing

from runlake.errors import LakeUnavailable
from runlake.logs import Log
from runlake_ingest.intake import LateId
from runlake_ingest.lakewriter import LakeReader

_RETRY_SECONDS = 1.0


class LookupThread:
    """One question at a time. `on_answer` is called on the thread with each id and whether the lake holds it; while the
    lake cannot be read the question is asked again, every second. `on_failure` is called once, with what ended it."""

    def __init__(
        self,
        reader: Callable[[], LakeReader],
        on_answer: Callable[[dict[LateId, bool]], None],
        on_failure: Callable[[BaseException], None],
        log: Log,
    ) -> None:
        self._make_reader = reader
        self._on_answer = on_answer
        self._on_failure = on_failure
        self._log = log
        self._questions: queue.Queue[Sequence[LateId] | None] = queue.Queue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookup", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self, wanted: Sequence[LateId]) -> None:
        self._questions.put(wanted)

    def stop(self, timeout: float) -> None:
        self._stopping.set()
        self._questions.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while (wanted := self._questions.get()) is not None:
                known = self._known(wanted)
                if known is not None:
                    self._on_answer({late: late.event_id in known for late in wanted})
        except BaseException as error:  # noqa: BLE001 (whatever it is, the receiver must know)
            self._on_failure(error)

    def _known(self, wanted: Sequence[LateId]) -> set[int] | None:
        while True:
            try:
                with closing(self._make_reader()) as reader:
                    return reader.known(wanted)
            except LakeUnavailable as error:
                self._log.warning("lookup_waits", messages=len(wanted), reason=str(error))
            if self._stopping.wait(_RETRY_SECONDS):
                return None
