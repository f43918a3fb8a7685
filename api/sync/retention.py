"""Letting old bodies go. The index stays for ever; a body is fetched by its oid when asked for."""

from datetime import UTC, datetime, timedelta

from api.cache.runs import Runs
from api.cache.workers import Workers
from api.sync.reconcile import Reconciler

_LOG_DAYS = 365
_WORKER_DAYS = 7  # after which one that was not seen is of no interest any more


async def forget_cold(reconciler: Reconciler) -> int:
    """Drop the bodies of sessions older than the retention. Returns how many."""
    now = datetime.now(UTC)
    return await reconciler.cache.forget_cold(cutoff=now - reconciler.retention, now=now)


async def forget_old(reconciler: Reconciler) -> int:
    """As `forget_cold`; and drop what the log has kept for a year, and workers that are gone.

    Raises CacheUnavailable; what was dropped by then stays so, and the next run drops the rest.
    """
    database, now = reconciler.cache.database, datetime.now(UTC)
    gone = await forget_cold(reconciler)
    await Runs(database).forget(now - timedelta(days=_LOG_DAYS))
    await Workers(database).forget(now - timedelta(days=_WORKER_DAYS))
    return gone
