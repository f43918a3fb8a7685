"""Which version the cache's head has now, as far as a process can know without asking."""

import asyncio
import logging
from contextlib import suppress
from types import TracebackType
from typing import Self

import asyncpg

from api.cache.database import FAILURES, Database
from api.cache.pool import Alarm

log = logging.getLogger(__name__)

CHANNEL = "annoris_head"  # as the migration names it
LEASE_SECONDS = 1.0  # for which a version is believed without word from PostgreSQL
_RENEWAL_SECONDS = 0.3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 2.0  # seconds between tries to listen


class Watch:
    """Hears from PostgreSQL of every change of the head. Use as an async context manager.

    It is sure of a version only for a moment after PostgreSQL confirmed it, and no longer once
    anybody told of a change: a listener that is cut off, or whose PostgreSQL hangs, is sure of
    nothing. While nobody asks for the version it asks PostgreSQL nothing.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._version: int | None = None
        self._confirmed_at = 0.0  # by the event loop's clock: when the question was sent
        self._writes = 0  # of this process, at that time
        self._changes = 0  # heard of so far
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._following:
            self._following.cancel()
            await asyncio.wait({self._following})

    @property
    def version(self) -> int | None:
        """The head's version now; None where that is not sure."""
        self._wanted.set()
        if self._writes != self._database.writes:
            self._news.set()
            return None
        age = asyncio.get_running_loop().time() - self._confirmed_at
        return self._version if age < LEASE_SECONDS and not self._database.is_too_slow else None

    def _hear(self) -> None:
        self._changes += 1
        self._version = None
        self._news.set()

    async def _follow(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await self._wanted.wait()
            try:
                driver = await self._database.listen(CHANNEL, self._hear)
            except FAILURES as error:
                log.info("PostgreSQL cannot be listened to: %s", type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            pause = _FIRST_PAUSE
            try:
                with suppress(*FAILURES):
                    while True:
                        await self._confirm(driver)
            finally:
                driver.terminate()
                self._hear()
            await asyncio.sleep(pause)  # it may go wrong every time

    async def _confirm(self, driver: asyncpg.Connection) -> None:
        await self._wanted.wait()
        self._wanted.clear()
        self._news.clear()
        confirmed_at = asyncio.get_running_loop().time()
        writes, changes = self._database.writes, self._changes
        alarm = Alarm(self._database.read_timeout, driver.terminate)
        try:
            version = await driver.fetchval("SELECT version FROM head")
        finally:
            alarm.cancel()
        if changes == self._changes:
            self._version, self._writes, self._confirmed_at = version, writes, confirmed_at
        with suppress(TimeoutError):
            async with asyncio.timeout(_RENEWAL_SECONDS):
                await self._news.wait()
