"""GET /healthz: the process runs. GET /readyz: what it can reach, and what is down."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from api.cache.database import CacheUnavailable
from api.cache.tables import WorkerRow
from api.master.errors import MasterError
from api.wiring import Parts

router = APIRouter()

_PATIENCE = 4.0  # seconds for each look: who asks wants to know soon, above all when it is bad
_GITHUB_EVERY = 30.0  # seconds between looks at GitHub; each costs a point of the hourly quota


_SILENCE = timedelta(minutes=1)  # after which a worker, which gives signs of life, is missed


class Readiness:
    """What this process can reach. It is ready while one of the two stores answers reads."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._github: str | None = None
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    async def report(self) -> tuple[bool, dict[str, object]]:
        (postgres, warnings), github, redis = await asyncio.gather(
            self._look_at_postgres(), self._look_at_github(), self._look_at_redis()
        )
        down = {"postgres": postgres, "github": github, "redis": redis}
        ready = postgres is None or github is None
        return ready, {
            "ready": ready,
            "down": {name: reason for name, reason in down.items() if reason},
            "warnings": warnings,
        }

    async def _look_at_postgres(self) -> tuple[str | None, list[str]]:
        cache = self._parts.gateway.cache
        try:
            async with asyncio.timeout(_PATIENCE):
                warnings = await cache.shortcomings()
                async with cache.snapshot() as snapshot:
                    if snapshot.head is None:
                        warnings.append("The cache is empty: reads come from GitHub. Run a sync.")
                    warnings += self._miss_worker(await snapshot.last_worker())
        except CacheUnavailable as error:
            return f"{error} Reads come from GitHub.", []
        except TimeoutError:
            return f"PostgreSQL did not answer within {_PATIENCE:g} seconds.", []
        return None, warnings

    def _miss_worker(self, last: WorkerRow | None) -> list[str]:
        """A warning if nobody brings the cache along by the clock, though somebody should."""
        if last is None and self._parts.settings.redis_url is None:
            return []
        age = datetime.now(UTC) - last.seen_at if last else None
        if age and age <= _SILENCE:
            return []
        seen = f"for {age.total_seconds():.0f} seconds" if age else "so far"
        return [f"No worker was seen {seen}: nothing runs by the clock. Start `annoris worker`."]

    async def _look_at_redis(self) -> str | None:
        heard = await self._parts.doorbell.is_heard()
        return None if heard else "no answer: nothing is queued"

    async def _look_at_github(self) -> str | None:
        try:
            async with asyncio.timeout(_PATIENCE), self._looking:
                if time.monotonic() - self._looked_at >= _GITHUB_EVERY or self._github:
                    await self._parts.gateway.master.head()
                    self._github, self._looked_at = None, time.monotonic()
        except MasterError as error:
            self._github = f"{error} Nothing can be saved."
        except TimeoutError:
            self._github = f"GitHub did not answer within {_PATIENCE:g} seconds."
        return self._github


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    readiness: Readiness = request.app.state.readiness
    ready, report = await readiness.report()
    return JSONResponse(report, status_code=200 if ready else 503)
