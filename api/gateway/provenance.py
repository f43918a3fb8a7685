"""Where an answer came from, and how far to trust it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Self


class Consistency(Enum):
    """Which index an answer trusts."""

    CACHE = "CACHE"
    MASTER = "MASTER"
    VERIFIED = "VERIFIED"


class Source(Enum):
    """Which store's index an answer is from."""

    CACHE = "CACHE"
    MASTER = "MASTER"


class FallbackReason(Enum):
    """Why an answer did not come from where it was asked for."""

    CACHE_UNAVAILABLE = "CACHE_UNAVAILABLE"
    CACHE_STALE = "CACHE_STALE"
    CACHE_EMPTY = "CACHE_EMPTY"
    BEHIND_AT_LEAST = "BEHIND_AT_LEAST"
    MASTER_UNAVAILABLE = "MASTER_UNAVAILABLE"


class Verification(Enum):
    """What comparing the cache with the master showed."""

    MATCHED = "MATCHED"
    REPAIRED = "REPAIRED"
    CACHE_UNAVAILABLE = "CACHE_UNAVAILABLE"


class Age(float):
    """Seconds since `as_of`. Whoever gives an answer again tells them anew."""

    as_of: datetime

    def __new__(cls, as_of: datetime) -> Self:
        age = super().__new__(cls, cls.at(datetime.now(UTC), as_of))
        age.as_of = as_of
        return age

    @staticmethod
    def at(now: datetime, as_of: datetime) -> float:
        return round(max(0.0, (now - as_of).total_seconds()), 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """An answer is true for `commit`, which was last seen to be the master's head at `as_of`."""

    source: Source
    commit: str
    as_of: datetime
    stale: bool = False
    fallback: FallbackReason | None = None
    verification: Verification | None = None

    @property
    def age_seconds(self) -> Age:
        return Age(self.as_of)
