"""Connections for readers, who wait for one no longer than PostgreSQL is silent."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

import asyncpg

log = logging.getLogger(__name__)

_LONGEST = 10  # time-outs that one waits at most, however much the others are served


class Alarm:
    """Rings once after `seconds`, unless it is cancelled.

    When the event loop was busy with something else, what is waited for may have come unnoticed.
    Then it waits again, once.
    """

    def __init__(self, seconds: float, ring: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._ring = ring
        self._may_be_late = True
        self.has_rung = False
        self._set()

    def cancel(self) -> None:
        self._timer.cancel()

    def _set(self) -> None:
        self._at = self._loop.time() + self._seconds
        self._timer = self._loop.call_at(self._at, self._due)

    def _due(self) -> None:
        if self._may_be_late and self._loop.time() > self._at + 0.1 * self._seconds:
            self._may_be_late = False
            self._set()
            return
        self.has_rung = True
        self._ring()


class Pool:
    """A few connections, taken for one statement each.

    `connect` makes one. It may take longer than a reader waits: the next one finds it here.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], size: int) -> None:
        self._connect = connect
        self._size = size
        self._idle: list[asyncpg.Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[asyncio.Future[asyncpg.Connection]] = deque()
        self._answered_at = 0.0  # by the event loop's clock
        self.busy: set[asyncpg.Connection] = set()

    async def take(self, seconds: float) -> asyncpg.Connection:
        """A connection, to be given back.

        Raises TimeoutError when none was free for so long and PostgreSQL answered nobody else
        either: many readers are no sign of trouble. Or what the connecting failed with.
        """
        while self._idle:
            driver = self._idle.pop()
            if not driver.is_closed():
                self.busy.add(driver)
                return driver
        self._open()
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await self._wait(waiter, seconds)
        except BaseException:
            if waiter.done() and not waiter.cancelled() and not waiter.exception():
                self.give(waiter.result())
            waiter.cancel()
            raise
        return waiter.result()

    def give(self, driver: asyncpg.Connection) -> None:
        """Give a connection back. One that is closed makes room for another."""
        self.busy.discard(driver)
        if driver.is_closed():
            if self._next_waiter():
                self._open()
            return
        self._answered_at = asyncio.get_running_loop().time()
        self._offer(driver)

    async def close(self) -> None:
        """End the opening of connections. Those that are open are the caller's to end."""
        for opening in self._opening:
            opening.cancel()
        if self._opening:
            await asyncio.wait(set(self._opening))

    async def _wait(self, waiter: "asyncio.Future[asyncpg.Connection]", seconds: float) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        since, is_forgiven = begun, False
        while not waiter.done():
            give_up_at = min(max(since, self._answered_at) + seconds, begun + _LONGEST * seconds)
            late = loop.time() - give_up_at
            if late >= 0 and (is_forgiven or late < 0.1 * seconds):
                raise TimeoutError
            if late >= 0:  # the event loop was busy: what is waited for may have come unnoticed
                since, is_forgiven = loop.time(), True
            await asyncio.wait({waiter}, timeout=max(0.0, give_up_at - loop.time()))

    def _offer(self, driver: asyncpg.Connection) -> None:
        if waiter := self._next_waiter():
            self._waiting.popleft()
            self.busy.add(driver)
            waiter.set_result(driver)
        else:
            self._idle.append(driver)

    def _next_waiter(self) -> "asyncio.Future[asyncpg.Connection] | None":
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None

    def _open(self) -> None:
        self._idle = [driver for driver in self._idle if not driver.is_closed()]
        if len(self._idle) + len(self.busy) + len(self._opening) < self._size:
            opening = asyncio.create_task(self._add())
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _add(self) -> None:
        try:
            driver = await self._connect()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if self.busy:  # those who wait get one of these
                log.info("no further connection to PostgreSQL: %s", type(error).__name__)
                return
            while waiter := self._next_waiter():
                self._waiting.popleft()
                waiter.set_exception(error)
            return
        self._offer(driver)
