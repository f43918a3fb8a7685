"""Waiting for what comes about in the background."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.system import System


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    for _ in range(1000):
        if await holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"it did not come about that {what}")


async def cached_commit(system: System) -> str | None:
    async with system.parts.gateway.cache.snapshot() as snapshot:
        return snapshot.head.commit if snapshot.head else None


def reaches(system: System, commit: str) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        return await cached_commit(system) == commit

    return reached


async def settled(system: System) -> None:
    """Return when the gateway has nothing to do in the background, but to look again later."""
    gateway = system.parts.gateway
    while tidying := {task for task in gateway._tidying if task is not gateway._looking}:
        await asyncio.wait(tidying)
