"""The sign of life of a worker: a row in the cache, whatever becomes of Redis and its jobs."""

import asyncio
import logging
import os
import secrets
import socket
from datetime import UTC, datetime

from api.cache.database import CacheUnavailable
from api.cache.tables import WorkerRow
from api.cache.workers import Workers
from api.master.transport import GitHub
from api.wiring import Parts

log = logging.getLogger(__name__)

EVERY = 15.0  # seconds


async def beat(parts: Parts) -> None:
    """Write the row of a new worker, again and again, until cancelled."""
    master, workers = parts.reconciler.master, Workers(parts.reconciler.cache.database)
    worker = WorkerRow(name=_new_name(), started_at=datetime.now(UTC), seen_at=datetime.now(UTC))
    is_lost = False
    while True:
        worker.seen_at = datetime.now(UTC)
        _note_quota(worker, master.github)
        try:
            await workers.beat(worker)
            is_lost = False
        except CacheUnavailable as error:
            if not is_lost:
                log.warning("nobody sees that this worker lives, for now: %s", error)
            is_lost = True
        await asyncio.sleep(EVERY)


def _new_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def _note_quota(worker: WorkerRow, github: GitHub) -> None:
    """What GitHub last told this process."""
    quota = github.quota
    worker.quota_limit, worker.quota_remaining = quota.limit, quota.remaining
    worker.quota_resets_at, worker.token_expires_at = quota.reset_at, github.token_expires_at
