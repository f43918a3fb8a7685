"""GitHub's rate limits: points per hour, and the secondary limits that come long before them."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

Resource = Literal["graphql", "core"]
Secondary = Literal["points", "content", "concurrent"]

_HOUR = 3600.0
_MINUTE = 60.0


@dataclass(frozen=True)
class Limits:
    """The numbers of docs "Rate limits and query limits for the GraphQL API".

    None switches a limit off; the primary headers then still count, against 5,000.
    """

    points_per_hour: int | None = 5_000
    rest_per_hour: int | None = 5_000
    points_per_minute: int | None = 2_000
    rest_points_per_minute: int | None = 900
    content_per_minute: int | None = 80
    content_per_hour: int | None = 500
    concurrent: int | None = 100

    @classmethod
    def off(cls) -> "Limits":
        """No limit is ever reached: for tests of load."""
        return cls(None, None, None, None, None, None, None)

    def scaled(self, factor: float) -> "Limits":
        """The same limits, all larger or smaller."""

        def scale(value: int | None) -> int | None:
            return None if value is None else max(1, round(value * factor))

        return Limits(
            scale(self.points_per_hour),
            scale(self.rest_per_hour),
            scale(self.points_per_minute),
            scale(self.rest_points_per_minute),
            scale(self.content_per_minute),
            scale(self.content_per_hour),
            scale(self.concurrent),
        )


@dataclass
class Budget:
    """The primary limit of one user for one resource, in the current hour."""

    resource: Resource
    limit: int
    enforced: bool
    reset: float
    """Epoch seconds at which the hour is over."""
    used: int = 0

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    @property
    def reset_at(self) -> str:
        return datetime.fromtimestamp(math.ceil(self.reset), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def affords(self, cost: int) -> bool:
        return not self.enforced or self.remaining >= cost

    def headers(self) -> dict[str, str]:
        return {
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(self.remaining),
            "x-ratelimit-used": str(self.used),
            "x-ratelimit-reset": str(math.ceil(self.reset)),
            "x-ratelimit-resource": self.resource,
        }


@dataclass
class _Window:
    """A sum over the last so many seconds."""

    seconds: float
    events: deque[tuple[float, int]] = field(default_factory=deque)
    total: int = 0

    def sum(self, now: float) -> int:
        while self.events and self.events[0][0] <= now - self.seconds:
            self.total -= self.events.popleft()[1]
        return self.total

    def add(self, now: float, amount: int) -> None:
        self.events.append((now, amount))
        self.total += amount


@dataclass
class _Usage:
    """What one user has used lately."""

    points: _Window = field(default_factory=lambda: _Window(_MINUTE))
    rest_points: _Window = field(default_factory=lambda: _Window(_MINUTE))
    content_minute: _Window = field(default_factory=lambda: _Window(_MINUTE))
    content_hour: _Window = field(default_factory=lambda: _Window(_HOUR))
    running: int = 0


class Meter:
    """Counts what each user uses. All tokens of a user share one account."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        self.limits = limits
        self._clock = clock
        self._budgets: dict[tuple[str, Resource], Budget] = {}
        self._usage: dict[str, _Usage] = {}

    def reset(self) -> None:
        """Forget all use, except of requests that are running."""
        self._budgets.clear()
        self._usage = {
            user: _Usage(running=usage.running)
            for user, usage in self._usage.items()
            if usage.running
        }

    def budget(self, user: str, resource: Resource) -> Budget:
        """The account of this hour; the limits in force are read anew each time."""
        now = self._clock()
        per_hour = (
            self.limits.points_per_hour if resource == "graphql" else self.limits.rest_per_hour
        )
        budget = self._budgets.get((user, resource))
        if budget is None or budget.reset <= now:
            budget = Budget(resource, 5_000, enforced=False, reset=now + _HOUR)
            self._budgets[user, resource] = budget
        budget.limit = per_hour or 5_000
        budget.enforced = per_hour is not None
        return budget

    def begin(self, user: str) -> bool:
        """Count a request as running; False when too many are. Pair with `end` either way."""
        usage = self._usage.setdefault(user, _Usage())
        usage.running += 1
        return self.limits.concurrent is None or usage.running <= self.limits.concurrent

    def end(self, user: str) -> None:
        usage = self._usage.get(user)
        if usage is not None and usage.running:
            usage.running -= 1

    def secondary(self, user: str, *, mutation: bool, rest: bool = False) -> Secondary | None:
        """Count a request against the secondary limits, or say which one refuses it."""
        now = self._clock()
        usage = self._usage.setdefault(user, _Usage())
        window = usage.rest_points if rest else usage.points
        allowed = self.limits.rest_points_per_minute if rest else self.limits.points_per_minute
        weight = 5 if mutation else 1
        if allowed is not None and window.sum(now) + weight > allowed:
            return "points"
        if mutation:
            per_minute, per_hour = self.limits.content_per_minute, self.limits.content_per_hour
            if per_minute is not None and usage.content_minute.sum(now) >= per_minute:
                return "content"
            if per_hour is not None and usage.content_hour.sum(now) >= per_hour:
                return "content"
            usage.content_minute.add(now, 1)
            usage.content_hour.add(now, 1)
        window.add(now, weight)
        return None
