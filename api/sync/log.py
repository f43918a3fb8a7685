"""The log of what was done to the cache without a request."""

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from api.cache.cache import Cache
from api.cache.database import CacheUnavailable
from api.cache.tables import SyncRow
from api.sync.reconcile import Outcome, SyncReport

T = TypeVar("T")
log = logging.getLogger(__name__)


async def logged(cache: Cache, kind: str, run: Callable[[], Awaitable[T]]) -> T:
    """Run, and write down what came of it. Raises what `run` raises.

    A sync that found nothing to do is not worth a row: the head's `seen_at` tells of it.
    """
    start = time.perf_counter()
    entry = SyncRow(kind=kind, started_at=datetime.now(UTC), seconds=0)
    try:
        result = await run()
    except Exception as error:
        entry.error = f"{type(error).__name__}: {error}"
        await _write(cache, entry, start)
        raise
    if isinstance(result, SyncReport):
        if result.outcome is Outcome.UNCHANGED:
            return result
        entry.commit, entry.requests = result.commit, result.requests
        entry.added, entry.changed, entry.removed = result.added, result.changed, result.removed
    await _write(cache, entry, start)
    return result


async def _write(cache: Cache, entry: SyncRow, start: float) -> None:
    entry.seconds = time.perf_counter() - start
    try:
        await cache.log(entry)
    except CacheUnavailable:
        log.warning("a %s could not be written to the log: the cache is down", entry.kind)
