"""GET /healthz: the process runs. GET /readyz: what it can reach, and what is down."""

import asyncio
import time

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from api.cache.database import CacheUnavailable
from api.master.errors import MasterError
from api.wiring import Parts

router = APIRouter()

_GITHUB_EVERY = 30.0  # seconds between looks at GitHub; each costs a point of the hourly quota


class Readiness:
    """What this process can reach. It is ready while one of the two stores answers reads."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._github: str | None = None
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    async def report(self) -> tuple[bool, dict[str, object]]:
        postgres, warnings = await self._postgres()
        github = await self._look_at_github()
        redis = None if await self._parts.doorbell.is_heard() else "no answer: nothing is queued"
        down = {"postgres": postgres, "github": github, "redis": redis}
        ready = postgres is None or github is None
        return ready, {
            "ready": ready,
            "down": {name: reason for name, reason in down.items() if reason},
            "warnings": warnings,
        }

    async def _postgres(self) -> tuple[str | None, list[str]]:
        cache = self._parts.gateway.cache
        try:
            warnings = await cache.shortcomings()
            async with cache.snapshot() as snapshot:
                if snapshot.head is None:
                    warnings.append("The cache is empty: reads come from GitHub. Run a sync.")
        except CacheUnavailable as error:
            return f"{error} Reads come from GitHub.", []
        return None, warnings

    async def _look_at_github(self) -> str | None:
        async with self._looking:
            if time.monotonic() - self._looked_at >= _GITHUB_EVERY or self._github:
                try:
                    await self._parts.gateway.master.head()
                    self._github = None
                except MasterError as error:
                    self._github = f"{error} Nothing can be saved."
                self._looked_at = time.monotonic()
            return self._github


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    readiness: Readiness = request.app.state.readiness
    ready, report = await readiness.report()
    return JSONResponse(report, status_code=200 if ready else 503)
