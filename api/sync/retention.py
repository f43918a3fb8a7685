"""Letting old bodies go. The index stays for ever; a body is fetched by its oid when asked for."""

from datetime import UTC, datetime

from api.sync.reconcile import Reconciler


async def forget_cold(reconciler: Reconciler) -> int:
    """Drop the bodies of sessions older than the retention. Returns how many."""
    now = datetime.now(UTC)
    return await reconciler.cache.forget_cold(cutoff=now - reconciler.retention, now=now)
