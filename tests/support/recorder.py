"""An emitter whose messages a test reads: what arrived at the other end of a real socket, as a worker takes it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runlake.emitter import Emitter
from runlake.messages import Message, RunEvent, RunStarted, RunUpdated
from runlake.validation import validate
from support.router import Router, ipc


class Recorder:
    """An emitter with a router at its other end."""

    def __init__(self, folder: Path) -> None:
        self._router = Router(ipc(folder))
        self.emitter = Emitter(self._router.endpoint)

    def messages(self) -> list[Message]:
        """Everything that was emitted; the worker would accept all of it."""
        assert self.emitter.close()
        self._router.close()
        for message in self._router.messages:
            validate(message, datetime.now(UTC))
        return self._router.messages

    def starts(self) -> dict[str, RunStarted]:
        return {message.agent_name: message for message in self.messages() if isinstance(message, RunStarted)}

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The payloads of the run events of this type."""
        found = [message for message in self.messages() if isinstance(message, RunEvent) and message.type == kind]
        return [message.payload or {} for message in found]

    def state(self, agent_name: str) -> dict[str, Any]:
        """The fields of an agent's only run, folded: the later update wins."""
        (start,) = [m for m in self.messages() if isinstance(m, RunStarted) and m.agent_name == agent_name]
        state = {name: getattr(start, name) for name in start.__struct_fields__}
        for message in self.messages():
            if isinstance(message, RunUpdated) and message.run_event_id == start.event_id:
                state |= {
                    name: value
                    for name in message.__struct_fields__
                    if name != "event_id" and (value := getattr(message, name)) is not None
                }
        return state
