"""How often a caller may ask. All processes count together, as long as they have Redis for it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import ceil

from cachetools import LRUCache

_WINDOW = 60  # seconds
_PORTIONS = 20  # of a window's requests: taken at once, so that few requests ask Redis
_REMEMBERED = 10_000  # callers
_ALONE_SECONDS = 5.0  # for which a process counts for itself after Redis did not answer

# Counts on, and says how many there are: (name, amount, seconds to remember it). None: no answer.
Count = Callable[[str, int, int], Awaitable[int | None]]


@dataclass(slots=True)
class _Purse:
    """What a caller may still ask in a window, of what this process has taken."""

    window: int
    left: int = 0
    taken: int = 0
    is_empty: bool = False  # there is nothing more to take
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def lacks(self, price: int) -> bool:
        """Whether too little is left of what was taken, and there is more to take."""
        return self.left < price and not self.is_empty


class Rate:
    """At most `most` requests a minute for each caller, by the clock's minutes.

    A dear one counts for several, a quarter of them at most: whatever is allowed can be paid for.
    Where processes count together, what one has taken and not used is lost to the others: a
    twentieth of the limit, or the price of a dear request that was refused.
    """

    def __init__(self, most: int, count: Count, clock: Callable[[], float] = time.time) -> None:
        self.most = most
        self.dearest = max(1, most // 4)
        self._count = count
        self._clock = clock
        self._portion = ceil(most / _PORTIONS)
        self._purses: LRUCache[str, _Purse] = LRUCache(_REMEMBERED)
        self._alone_until = 0.0

    async def seconds_to_wait(self, caller: str, price: int = 1) -> int:
        """Count so many requests, or none.

        More than 0 if that is too much: seconds until the next minute.
        """
        now, price = self._clock(), min(price, self.dearest)
        purse = self._purses.get(caller)
        if purse is None or purse.window != int(now // _WINDOW):
            purse = self._purses[caller] = _Purse(int(now // _WINDOW))
        if purse.lacks(price):
            async with purse.turn:  # or each who comes meanwhile would take a portion
                if purse.lacks(price):
                    await self._take(caller, purse, now, price - purse.left)
        if purse.left >= price:
            purse.left -= price
            return 0
        return max(1, ceil((purse.window + 1) * _WINDOW - now))

    async def _take(self, caller: str, purse: _Purse, now: float, least: int) -> None:
        counted, portion = None, max(self._portion, least)
        if now >= self._alone_until:
            name = f"annoris:rate:{purse.window}:{caller}"
            counted = await self._count(name, portion, 2 * _WINDOW)
            if counted is None:
                self._alone_until = now + _ALONE_SECONDS
        if counted is None:
            counted = purse.taken + portion
        granted = max(0, min(portion, self.most - counted + portion))
        purse.taken += portion
        purse.left += granted
        purse.is_empty = granted < portion
