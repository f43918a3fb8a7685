"""Gateways as processes of their own, which can be told to stop or be killed at any moment."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.github import GitHub
from sandbox.processes import free_port

# A server that has everything imported: each gateway is a fork of it, and there in no time.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["api.cli", "api.app"])


def _serve(environment: Mapping[str, str], log: Path) -> None:
    from api.cli import main  # noqa: PLC0415  # in the process that serves

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["annoris", "serve"]
    main()


@dataclass(frozen=True)
class Answer:
    """A GraphQL answer, or none: then the connection was lost before it came."""

    data: Any
    errors: list[dict[str, Any]] = field(default_factory=list)
    is_lost: bool = False

    @property
    def code(self) -> str | None:
        return str(self.errors[0]["extensions"]["code"]) if self.errors else None


LOST = Answer(None, is_lost=True)


class Gateway:
    """One process with `annoris serve`, on a port that it keeps when it is started again."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.port = free_port()
        self.log = log
        self._environment = {**environment, "PORT": str(self.port), "PATH": os.environ["PATH"]}
        self._process: ForkServerProcess | None = None
        self._http: aiohttp.ClientSession | None = None

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    @property
    def pid(self) -> int:
        """Of the process, which must run."""
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    async def start(self) -> None:
        """Run it until it answers."""
        self._process = _FORKS.Process(target=_serve, args=(self._environment, self.log))
        await asyncio.to_thread(self._process.start)
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with self._http.get(f"{self.url}/healthz") as answer:
                        if answer.status == 200:
                            return
                assert self._process.is_alive(), self.log.read_text()
                await asyncio.sleep(0.01)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(self, query: str, **variables: object) -> Answer:
        assert self._http is not None
        try:
            async with self._http.post(
                f"{self.url}/graphql", json={"query": query, "variables": variables}
            ) as response:
                answer = await response.json()
        except TimeoutError as error:
            raise AssertionError(f"no answer to {variables}:\n{self.log.read_text()}") from error
        except (aiohttp.ClientError, ConnectionError):
            return LOST
        return Answer(answer.get("data"), answer.get("errors", []))

    async def kill(self) -> None:
        """SIGKILL: it has no time for anything."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM: it finishes what it has begun."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None or self._http is None:
            return
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, number)
        await asyncio.to_thread(self._process.join, 30)
        assert self._process.exitcode is not None, "it does not end"
        self._process.close()
        self._process = None
        await self._http.close()


def environment(github: GitHub, database_url: str, **more: str) -> dict[str, str]:
    """Settings that give up soon, so that a fault costs little time."""
    return {
        "DATABASE_URL": database_url,
        "GITHUB_TOKEN": github.token,
        "GITHUB_REPOSITORY": github.hosting.name,
        "GITHUB_API_URL": github.url,
        "WRITE_TIMEOUT_SECONDS": "2",
        "MASTER_TIMEOUT_SECONDS": "1",
        "DATABASE_TIMEOUT_SECONDS": "0.5",
        **more,
    }


@contextlib.asynccontextmanager
async def gateways(
    count: int, github: GitHub, database_url: str, folder: Path, **more: str
) -> AsyncIterator[list[Gateway]]:
    """So many gateways in front of one repository and one database."""
    settings = environment(github, database_url, **more)
    started = [Gateway(settings, folder / f"gateway-{number}.log") for number in range(count)]
    try:
        await asyncio.gather(*(gateway.start() for gateway in started))
        yield started
    finally:
        await asyncio.gather(*(gateway.stop() for gateway in started))
