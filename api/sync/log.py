"""The log of what was done to the cache without a request."""

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from api.cache.cache import Cache
from api.cache.database import CacheUnavailable
from api.cache.tables import SyncRow
from api.documents.listing import UNSTORABLE
from api.master.errors import MasterError
from api.sync.health import CacheMoved
from api.sync.reconcile import Outcome, Reconciler, SyncReport

T = TypeVar("T")
log = logging.getLogger(__name__)

_LONGEST_REASON = 1_000  # characters; a part of them may be GitHub's words


class Stuck(Exception):
    """A run took too long and was ended."""


async def logged(reconciler: Reconciler, kind: str, run: Callable[[], Awaitable[T]]) -> T:
    """Run, and write down what came of it and what it cost. Raises what `run` raises.

    A sync that found nothing to do is not worth a row: the head's `seen_at` tells of it. Nor is one
    that others kept from its work, or a health check: it has not failed, and is tried again.
    """
    start, failure = time.perf_counter(), None
    entry = SyncRow(kind=kind, started_at=datetime.now(UTC), seconds=0)
    with reconciler.master.github.metered() as meter:
        try:
            result = await run()
        except CacheMoved:
            raise
        except Exception as error:  # raised below
            failure = error
    entry.requests, entry.points, entry.bytes = meter.requests, meter.points, meter.bytes
    entry.seconds = time.perf_counter() - start
    if failure:
        entry.error, entry.error_class = told(failure), type(failure).__name__
        await _write(reconciler.cache, entry)
        raise failure
    if isinstance(result, SyncReport):
        if result.outcome is not Outcome.APPLIED:
            return result
        entry.commit = result.commit
        entry.added, entry.changed, entry.removed = result.added, result.changed, result.removed
    await _write(reconciler.cache, entry)
    return result


def told(error: Exception) -> str:
    """A failure as the log keeps it, which everybody may read: in sentences of ours alone."""
    if isinstance(error, MasterError | CacheUnavailable | CacheMoved | Stuck):
        reason = UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", str(error))[:_LONGEST_REASON]
    else:
        reason = "Nobody foresaw this. What the process wrote to its log says more."
    return f"{type(error).__name__}: {reason}"


async def _write(cache: Cache, entry: SyncRow) -> None:
    try:
        await cache.log(entry)
    except CacheUnavailable:
        log.warning("a %s could not be written to the log: the cache is down", entry.kind)
