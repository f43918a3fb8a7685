"""The jobs. Each can run twice, or be killed anywhere, and do no harm.

They return whether they did what they are for; if not, the log says why, and a retry is due.
"""

import logging

from api.cache.database import CacheUnavailable
from api.jobs import HEALTH_CHECK, RETENTION, SYNC
from api.master.errors import MasterError
from api.sync.health import CacheMoved, check_health
from api.sync.log import logged
from api.sync.reconcile import Outcome
from api.sync.retention import forget_cold
from api.wiring import Parts

log = logging.getLogger(__name__)


async def sync(parts: Parts) -> bool:
    """Bring the cache to the master's head."""
    reconciler = parts.reconciler
    try:
        report = await logged(reconciler.cache, SYNC, reconciler.run)
    except (MasterError, CacheUnavailable) as error:
        log.warning("sync failed, the cache is as it was: %s", error)
        return False
    log.info("sync: %s", report)
    return report.outcome in {Outcome.UNCHANGED, Outcome.APPLIED}


async def health_check(parts: Parts) -> bool:
    """Prove the whole cache against the master and repair it."""
    reconciler = parts.reconciler
    try:
        report = await logged(reconciler.cache, HEALTH_CHECK, lambda: check_health(reconciler))
    except (MasterError, CacheUnavailable, CacheMoved) as error:
        log.warning("health check failed: %s", error)
        return False
    log.info("health check: %d documents, %d drifted", report.documents, len(report.drift))
    return True


async def retention(parts: Parts) -> bool:
    """Let the bodies of old sessions go. The index keeps them."""
    reconciler = parts.reconciler
    try:
        gone = await logged(reconciler.cache, RETENTION, lambda: forget_cold(reconciler))
    except CacheUnavailable as error:
        log.warning("retention failed: %s", error)
        return False
    log.info("retention: %d bodies left the cache", gone)
    return True
