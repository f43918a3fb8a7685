"""Where an answer came from, and how far to trust it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum


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
    def age_seconds(self) -> float:
        return max(0.0, (datetime.now(UTC) - self.as_of).total_seconds())
