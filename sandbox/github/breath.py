"""Long work on the event loop, in pieces short enough that nobody notices."""

import asyncio
import time

SHARE = 0.01
"""Seconds that one piece of work may keep the event loop before the others get their turn."""


class Breath:
    """Await it between steps: it yields only when the share is used up."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    async def take(self) -> None:
        if time.monotonic() - self._since > SHARE:
            await asyncio.sleep(0)
            self._since = time.monotonic()
