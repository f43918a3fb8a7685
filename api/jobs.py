"""Ringing the worker: jobs by name, through Redis. A ring that nobody hears costs only time.

The cache and the master hold the truth; whatever a lost job would have done, the next scheduled
run finds by itself.
"""

import asyncio
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime

import orjson
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

SYNC, HEALTH_CHECK, RETENTION = "sync", "health_check", "retention"
QUEUE = "annoris"
_BUCKET = 1.0  # seconds; rings for one job within them become one run after them
_PATIENCE = 2.0  # seconds for Redis to take a ring
_COUNT_SECONDS = 0.25  # for Redis to count: somebody waits for an answer
_CONNECT_SECONDS = 1.0
_ANSWER_SECONDS = 5.0  # as long also for a ring that was given up: arq takes back its WATCH


def serialize(job: object) -> bytes:
    """JSON: who can write to Redis must not be able to run code here, as with pickle."""
    return orjson.dumps(job, default=str)


def connect(url: str) -> ArqRedis:
    """Redis, of which every answer is waited for in bounded time. Connects when it is needed.

    arq's own `create_pool` sets no bound: a frozen Redis, or a network that swallows everything,
    would hold a worker for ever.
    """
    return ArqRedis(
        ConnectionPool.from_url(
            url, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_ANSWER_SECONDS
        ),
        job_serializer=serialize,
        job_deserializer=orjson.loads,
        default_queue_name=QUEUE,
    )


class Doorbell:
    """Rings for jobs. Never raises: without Redis nobody hears, and that is all."""

    def __init__(self, url: str | None) -> None:
        self.redis = connect(url) if url else None

    async def ring(self, job: str, *, within: float = _BUCKET) -> bool:
        """Have `job` run within so many seconds, once however often it is rung for meanwhile.

        False when Redis did not take the ring.
        """
        if self.redis is None:
            return False
        # Rings of one bucket share a job that starts when the bucket is over, so that none of
        # them can fall into a run that has looked at the master already.
        bucket = int(time.time() / within) + 1
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.redis.enqueue_job(
                    job,
                    _job_id=f"{job}:{within:g}:{bucket}",
                    _defer_until=datetime.fromtimestamp(bucket * within, UTC),
                    _expires=3600,
                )
                return True
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("the worker was not rung for %s: %s", job, type(error).__name__)
            return False

    async def count(self, name: str, amount: int, seconds: int) -> int | None:
        """Add to a number that is forgotten after so many seconds. None: Redis did not answer."""
        if self.redis is None:
            return None
        try:
            async with asyncio.timeout(_COUNT_SECONDS), self.redis.pipeline() as both:
                both.incrby(name, amount)
                both.expire(name, seconds)
                counted, _ = await both.execute()
                return int(counted)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("this process counts requests for itself: %s", type(error).__name__)
            return None

    async def is_heard(self) -> bool:
        """Whether Redis takes rings."""
        if self.redis is None:
            return False
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.redis.ping()
                return True
        except (RedisError, OSError, TimeoutError):
            return False

    async def close(self) -> None:
        if self.redis:
            with suppress(RedisError, OSError):  # it may be frozen, and not say goodbye
                await self.redis.aclose(close_connection_pool=True)
