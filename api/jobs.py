"""Ringing the worker: jobs by name, through Redis. A ring that nobody hears costs only time.

The cache and the master hold the truth; whatever a lost job would have done, the next scheduled
run finds by itself.
"""

import asyncio
import logging
import time
from datetime import UTC, datetime

import orjson
from arq.connections import ArqRedis, RedisSettings, create_pool
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

SYNC, HEALTH_CHECK, RETENTION = "sync", "health_check", "retention"
QUEUE = "annoris"
_BUCKET = 1.0  # seconds; rings for one job within it become one run after it
_PATIENCE = 2.0  # seconds for Redis to take a ring


def serialize(job: object) -> bytes:
    """JSON: who can write to Redis must not be able to run code here, as with pickle."""
    return orjson.dumps(job, default=str)


def redis_settings(url: str) -> RedisSettings:
    settings = RedisSettings.from_dsn(url)
    settings.conn_timeout = 1
    settings.conn_retries = 0
    return settings


class Doorbell:
    """Rings for jobs. Never raises: without Redis nobody hears, and that is all."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._pool: ArqRedis | None = None
        self._connecting = asyncio.Lock()

    async def ring(self, job: str) -> bool:
        """Have `job` run soon, once however often it is rung for within a second.

        False when Redis did not take the ring.
        """
        if self._url is None:
            return False
        # Rings of one bucket share a job that starts when the bucket is over, so that none of
        # them can fall into a run that has looked at the master already.
        bucket = int(time.time() / _BUCKET) + 1
        try:
            async with asyncio.timeout(_PATIENCE):
                pool = await self._connected(self._url)
                await pool.enqueue_job(
                    job,
                    _job_id=f"{job}:{bucket}",
                    _defer_until=datetime.fromtimestamp(bucket * _BUCKET, UTC),
                    _expires=3600,
                )
                return True
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("the worker was not rung for %s: %s", job, type(error).__name__)
            return False

    async def is_heard(self) -> bool:
        """Whether Redis takes rings."""
        if self._url is None:
            return False
        try:
            async with asyncio.timeout(_PATIENCE):
                await (await self._connected(self._url)).ping()
                return True
        except (RedisError, OSError, TimeoutError):
            return False

    async def _connected(self, url: str) -> ArqRedis:
        async with self._connecting:
            if self._pool is None:
                self._pool = await create_pool(
                    redis_settings(url),
                    job_serializer=serialize,
                    job_deserializer=orjson.loads,
                    default_queue_name=QUEUE,
                )
            return self._pool

    async def close(self) -> None:
        if self._pool:
            await self._pool.aclose(close_connection_pool=True)
