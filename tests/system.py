"""The gateway as its users meet it: over HTTP, in front of a real database and the stand-in."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import uvicorn

from api.app import Application, create_app
from api.http.protocol import BoundedProtocol
from api.settings import load
from api.wiring import Parts
from sandbox.github import GitHub

_PATIENCE = 20.0  # seconds: a busy computer is no sign of trouble


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
        """With more patience than the gateway may have been given for its readers."""
        database = self.parts.gateway.cache.database
        timeout, database.timeout = database.timeout, _PATIENCE
        try:
            await self.parts.reconciler.run()
        finally:
            database.timeout = timeout

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
            "DATABASE_TIMEOUT_SECONDS": f"{_PATIENCE:g}",
            **(environment or {}),
        }
    )
    app = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            # Longer than its client does: neither closes what the other is about to use.
            timeout_keep_alive=60,
        )
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


@contextlib.contextmanager
def impatient(*systems: System) -> Iterator[None]:
    """Gateways that wait for PostgreSQL as shortly as a test would, for as long as it is frozen."""
    databases = [system.parts.gateway.cache.database for system in systems]
    for database in databases:
        database.timeout = database.read_timeout = 0.3
    try:
        yield
    finally:
        for database in databases:
            database.timeout = database.read_timeout = _PATIENCE


async def _port_of(server: uvicorn.Server, task: asyncio.Task[None]) -> int:
    async with asyncio.timeout(20):
        while not server.started:
            if task.done():
                await task
                raise RuntimeError("the gateway did not start")
            await asyncio.sleep(0.01)
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def _parts(app: Application) -> Parts:
    parts: Parts = app.state.parts
    return parts
