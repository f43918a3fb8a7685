"""The gateway as its users meet it: over HTTP, in front of a real database and the stand-in."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.settings import load
from api.wiring import Parts
from sandbox.github import GitHub


@dataclass(frozen=True)
class Answer:
    """One GraphQL answer. `data` is what an agent would pick values from."""

    data: Any
    errors: list[dict[str, Any]] = field(default_factory=list)

    @property
    def code(self) -> str | None:
        """The code of the only error."""
        if not self.errors:
            return None
        [error] = self.errors
        return str(error["extensions"]["code"])


@dataclass(frozen=True)
class System:
    """A running gateway."""

    url: str
    parts: Parts
    github: GitHub
    http: aiohttp.ClientSession

    async def ask(self, query: str, **variables: object) -> Answer:
        async with self.http.post(
            f"{self.url}/graphql", json={"query": query, "variables": variables}
        ) as response:
            answer = await response.json()
        return Answer(answer.get("data"), answer.get("errors", []))

    async def sync(self) -> None:
        await self.parts.reconciler.run()

    @property
    def requests(self) -> int:
        """GraphQL and REST requests that this gateway has sent to GitHub."""
        return self.parts.gateway.master.github.requests

    @property
    def statements(self) -> int:
        """SQL statements that this gateway has sent."""
        return self.parts.gateway.cache.database.statements


@contextlib.asynccontextmanager
async def running(
    github: GitHub, database_url: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[System]:
    """A gateway on a free port, in this event loop, for as long as the block lasts."""
    settings = load(
        {
            "DATABASE_URL": database_url,
            "GITHUB_TOKEN": github.token,
            "GITHUB_REPOSITORY": github.hosting.name,
            "GITHUB_API_URL": github.url,
            **(environment or {}),
        }
    )
    app = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False)
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(server.serve())
    try:
        port = await _port_of(server, task)
        async with aiohttp.ClientSession() as http:
            yield System(f"http://127.0.0.1:{port}", _parts(app), github, http)
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 20)


async def _port_of(server: uvicorn.Server, task: asyncio.Task[None]) -> int:
    async with asyncio.timeout(20):
        while not server.started:
            if task.done():
                await task
                raise RuntimeError("the gateway did not start")
            await asyncio.sleep(0.01)
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def _parts(app: FastAPI) -> Parts:
    parts: Parts = app.state.parts
    return parts
