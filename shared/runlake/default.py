"""The default emitter: the one that `runlake.emit` and `runlake.track_run` use, made when it is first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runlake.emitter import Emitter


class DefaultEmitter:
    """Holds the process's emitter. Making it loads pyzmq, so that importing `runlake` stays quick."""

    def __init__(self) -> None:
        self._made: dict[str, Emitter] = {}  # one entry; a dict for its atomic `setdefault`

    @property
    def made(self) -> Emitter | None:
        """The emitter, if one was needed yet."""
        return self._made.get("")

    def get(self) -> Emitter:
        """The emitter, made if there is none. Two threads that come first at the same time agree on one."""
        return self._made.get("") or self._made.setdefault("", self._make({}))

    def configure(self, options: dict[str, Any]) -> None:
        """Make a new emitter, and close the one before, if any, with its exit deadline."""
        emitter = self._make(options)
        before = self._made.get("")
        self._made[""] = emitter
        if before is not None:
            before.close_at_exit()

    @staticmethod
    def _make(options: dict[str, Any]) -> Emitter:
        from runlake.emitter import Emitter  # noqa: PLC0415

        usable = {name: value for name, value in options.items() if name in Emitter.OPTIONS}
        try:
            emitter = Emitter(**usable)
        except Exception as error:  # noqa: BLE001 (an agent with a wrong option is better recorded than stopped)
            emitter = Emitter()
            emitter.notice(
                "options", f"RunLake's defaults are used, since configure() was given a wrong value: {error}"
            )
        unknown = sorted(options.keys() - usable.keys())
        if unknown:
            emitter.notice("unknown", f"RunLake's configure() does not know {', '.join(unknown)}")
        return emitter
