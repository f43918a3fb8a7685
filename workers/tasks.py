"""The jobs. Each can run twice, or be killed anywhere, and do no harm.

They return how they ended; if that is not with what they are for, the log says why.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, TypeVar

from api.cache.database import CacheUnavailable
from api.jobs import HEALTH_CHECK, RETENTION, SYNC
from api.master.errors import MasterError, RateLimited
from api.sync.health import CacheMoved, check_health
from api.sync.log import Stuck, logged
from api.sync.reconcile import Outcome
from api.sync.retention import forget_old
from api.wiring import Parts

T = TypeVar("T")
log = logging.getLogger(__name__)

SYNC_SECONDS, CHECK_SECONDS, RETENTION_SECONDS = 900.0, 3600.0, 900.0  # what takes longer is stuck


class Ended(Enum):
    """`NOT_NOW`: others are at it, or GitHub lags. That is no failure; it is looked at again."""

    DONE = "done"
    NOT_NOW = "not now"


@dataclass(frozen=True, slots=True)
class Failed:
    """To be tried again, `after` so many seconds at least."""

    after: float = 0.0


Ending: TypeAlias = Ended | Failed


async def sync(parts: Parts) -> Ending:
    """Bring the cache to the master's head."""
    reconciler, start = parts.reconciler, time.monotonic()
    try:
        report = await logged(reconciler, SYNC, lambda: _within(SYNC_SECONDS, reconciler.run()))
    except (MasterError, CacheUnavailable, Stuck) as error:
        return _failed("sync", error)
    log.info("sync: %s", report)
    if report.outcome is Outcome.APPLIED and time.monotonic() - start > _patience(parts):
        # Who was rung meanwhile may have given up waiting for the turn, and known of a newer head.
        await parts.doorbell.ring(SYNC)
    is_settled = report.outcome in {Outcome.UNCHANGED, Outcome.APPLIED}
    return Ended.DONE if is_settled else Ended.NOT_NOW


async def health_check(parts: Parts) -> Ending:
    """Prove the whole cache against the master and repair it."""
    reconciler = parts.reconciler
    try:
        report = await logged(
            reconciler, HEALTH_CHECK, lambda: _within(CHECK_SECONDS, check_health(reconciler))
        )
    except CacheMoved as error:
        log.info("health check: %s", error)
        return Ended.NOT_NOW
    except (MasterError, CacheUnavailable, Stuck) as error:
        return _failed("health check", error)
    log.info("health check: %d documents, %d drifted", report.documents, len(report.drift))
    return Ended.DONE


async def retention(parts: Parts) -> Ending:
    """Let the bodies of old sessions go, and the old end of the log. The index stays."""
    reconciler = parts.reconciler
    try:
        gone = await logged(
            reconciler, RETENTION, lambda: _within(RETENTION_SECONDS, forget_old(reconciler))
        )
    except (CacheUnavailable, Stuck) as error:
        return _failed("retention", error)
    log.info("retention: %d bodies left the cache", gone)
    return Ended.DONE


def _patience(parts: Parts) -> float:
    """Seconds that a sync may take without another one giving up meanwhile."""
    return parts.reconciler.cache.database.timeout / 2


def _failed(job: str, error: Exception) -> Failed:
    log.warning("%s failed, the cache is as it was: %s", job, error)
    return Failed(error.retry_after if isinstance(error, RateLimited) else 0.0)


async def _within(seconds: float, work: Awaitable[T]) -> T:
    """Raises Stuck when it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        raise Stuck(f"It took longer than {seconds:g} seconds and was ended.") from error
