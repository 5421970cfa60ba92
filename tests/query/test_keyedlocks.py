"""Locks by key: turns, who gives up waiting, and that nothing of them stays."""

from __future__ import annotations

import asyncio
from uuid import UUID

from runlake_query.keyedlocks import KeyedLocks

KEY, OTHER = UUID(int=1), UUID(int=2)


async def test_who_speaks_of_one_id_takes_turns_in_order_and_others_do_not_wait() -> None:
    locks, told = KeyedLocks(), list[str]()
    free = asyncio.Event()

    async def speak(name: str, key: UUID, until: asyncio.Event | None = None) -> None:
        async with locks.hold(key):
            told.append(f"{name} begins")
            if until is not None:
                await until.wait()
            told.append(f"{name} ends")

    first = asyncio.create_task(speak("first", KEY, free))
    rest = [asyncio.create_task(speak(name, KEY)) for name in ("second", "third")]
    await asyncio.create_task(speak("other", OTHER))
    assert told == ["first begins", "other begins", "other ends"]
    free.set()
    await asyncio.gather(first, *rest)
    assert told[3:] == ["first ends", "second begins", "second ends", "third begins", "third ends"]


async def test_a_turn_that_nobody_takes_any_more_goes_to_the_next() -> None:
    locks, held = KeyedLocks(), asyncio.Event()

    async def hold() -> None:
        async with locks.hold(KEY):
            held.set()

    async with locks.hold(KEY):
        leaving, leaving_late, staying = (asyncio.create_task(hold()) for _ in range(3))
        await asyncio.sleep(0)
        leaving.cancel()
    leaving_late.cancel()  # it has the turn already, and has not run since
    await asyncio.wait_for(staying, 10)
    assert held.is_set()
    assert leaving.cancelled()
    assert leaving_late.cancelled()
    await asyncio.wait_for(hold(), 10)


async def test_all_locks_of_a_batch_are_held_once_each_and_let_go() -> None:
    locks = KeyedLocks()
    async with locks.hold_all([OTHER, KEY, OTHER]):
        waiting = asyncio.create_task(_take(locks))
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 10)


async def _take(locks: KeyedLocks) -> None:
    async with locks.hold(KEY), locks.hold(OTHER):
        pass
