"""The jobs. Each can run twice, or be killed anywhere, and do no harm."""

import logging
from api.cache.database import CacheUnavailable
from api.jobs import HEALTH_CHECK, RETENTION, SYNC
from api.master.errors import MasterError
from api.sync.health import CacheMoved, check_health
from api.sync.log import logged
from api.sync.retention import forget_cold
from api.wiring import Parts

log = logging.getLogger(__name__)


async def sync(parts: Parts) -> None:
    """Bring the cache to the master's head."""
    reconciler = parts.reconciler
    try:
        report = await logged(reconciler.cache, SYNC, reconciler.run)
        log.info("sync: %s", report)
    except (MasterError, CacheUnavailable) as error:
        log.warning("sync failed, the cache is as it was: %s", error)


async def health_check(parts: Parts) -> None:
    """Prove the whole cache against the master and repair it."""
    reconciler = parts.reconciler
    try:
        report = await logged(reconciler.cache, HEALTH_CHECK, lambda: check_health(reconciler))
        log.info("health check: %s", report)
    except (MasterError, CacheUnavailable, CacheMoved) as error:
        log.warning("health check failed: %s", error)


async def retention(parts: Parts) -> None:
    """Let the bodies of old sessions go. The index keeps them."""
    reconciler = parts.reconciler
    try:
        gone = await logged(reconciler.cache, RETENTION, lambda: forget_cold(reconciler))
        log.info("retention: %d bodies left the cache", gone)
    except CacheUnavailable as error:
        log.warning("retention failed: %s", error)
