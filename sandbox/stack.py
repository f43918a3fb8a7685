"""The whole system on one machine: what `annoris up` runs.

PostgreSQL, Redis and the stand-in for GitHub are ours; the gateway is a child process that is
started as in production, from environment variables alone.
"""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from sandbox.github import CannotCreate, GitHub, Webhook, create_repository
from sandbox.postgres import Postgres
from sandbox.processes import StartError, ended, free_port, fresh_log, last_lines, send, slay, spawn
from sandbox.redis import Redis

SAMPLES = Path(__file__).with_name("samples")
HOST = "127.0.0.1"

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


class StackError(Exception):
    """The system did not start, or a part of it ended. The message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running system is found."""

    gateway: str
    clone: str

    @property
    def graphql(self) -> str:
        return f"{self.gateway}/graphql"


async def run_stack(repo: Path | None, *, port: int, data: Path) -> None:
    """Run until cancelled, then stop everything. Raises StackError."""
    async with AsyncExitStack() as stack:
        addresses, gateway = await start_stack(stack, repo, port=port, data=data)
        print(banner(addresses), flush=True)  # noqa: T201  # this is what the command says
        await asyncio.to_thread(gateway.wait)  # when we are cancelled, it is stopped first
        raise StackError(f"The gateway ended. Its log is {data / 'gateway.log'}.")


async def start_stack(
    stack: AsyncExitStack, repo: Path | None, *, port: int, data: Path
) -> tuple[Addresses, subprocess.Popen[bytes]]:
    """Start all parts, to be stopped by `stack`. Returns when the first sync is done."""
    port = _port(port)
    secret = secrets.token_hex(16)
    gateway_url = f"http://{HOST}:{port}"
    try:
        repository = _repository(repo, data)
        postgres = await stack.enter_async_context(Postgres(data / "postgres"))
        redis = await stack.enter_async_context(Redis())
        github = await stack.enter_async_context(
            GitHub(repository, webhook=Webhook(f"{gateway_url}/webhooks/github", secret))
        )
    except (StartError, CannotCreate, OSError) as error:
        raise StackError(str(error)) from error
    environment = {
        **_inherited(),
        "DATABASE_URL": postgres.url,
        "REDIS_URL": redis.url,
        "GITHUB_TOKEN": github.token,
        "GITHUB_REPOSITORY": github.hosting.name,
        "GITHUB_API_URL": github.url,
        "GITHUB_WEBHOOK_SECRET": secret,
        "HOST": HOST,
        "PORT": str(port),
    }
    await _migrate(environment)
    gateway = await _start_gateway(stack, environment, data / "gateway.log")
    await _first_sync(gateway_url, gateway, data / "gateway.log")
    return Addresses(gateway_url, github.clone_url), gateway


def banner(addresses: Addresses) -> str:
    return f"""
Annoris Gateway is up. Ctrl-C stops everything.

  GraphiQL   {addresses.graphql}
  clone      git clone {addresses.clone}

A first query:

  curl -s {addresses.graphql} -H 'content-type: application/json' \\
    -d '{{"query":"{{ sessions(first: 3) {{ totalCount nodes {{ title occurredAt }} }} }}"}}'
"""


def _port(wanted: int) -> int:
    if wanted == 0:
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise StackError(
                f"Port {wanted} cannot be used: {error.strerror}. Choose another with --port."
            ) from error
    return wanted


def _repository(repo: Path | None, data: Path) -> Path:
    """The repository that is served: a copy of `repo`, or the one of an earlier run."""
    data.mkdir(parents=True, exist_ok=True)
    repository, note = data / "repository.git", data / "source"
    source = str((repo or SAMPLES).resolve())
    if repository.exists():
        known = note.read_text() if note.exists() else source
        if repo is not None and known != source:
            raise StackError(
                f"{data} holds a copy of {known} already, perhaps with new commits. "
                "Choose another directory with --data, or remove that one."
            )
        return repository
    create_repository(repository, repo or SAMPLES)
    note.write_text(source)
    return repository


def _inherited() -> dict[str, str]:
    """Our environment without what would configure the gateway otherwise."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GITHUB_", "ANNORIS_", "DATABASE_", "REDIS_", "PG"))
    }


async def _migrate(environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "api.cli",
        "migrate",
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), _START_SECONDS)
    if process.returncode:
        raise StackError(f"The database could not be prepared: {errors.decode(errors='replace')}")


async def _start_gateway(
    stack: AsyncExitStack, environment: dict[str, str], log_path: Path
) -> subprocess.Popen[bytes]:
    log = stack.enter_context(fresh_log(log_path))
    gateway = spawn(
        [sys.executable, "-m", "api.cli", "start"],
        log=log,
        account=None,
        reach=[],
        death_signal=signal.SIGTERM,
        environment=environment,
        directory=Path.cwd(),
    )
    stack.push_async_callback(_stop, gateway)
    return gateway


async def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        send(process, signal.SIGTERM)
        if not await ended(process, _STOP_SECONDS):
            slay(process)


async def _first_sync(url: str, gateway: subprocess.Popen[bytes], log_path: Path) -> None:
    """Wait until the gateway answers and its cache has been filled."""
    query = {"query": "{ cacheStatus { head } }"}
    async with aiohttp.ClientSession() as session, asyncio.timeout(_START_SECONDS):
        while gateway.poll() is None:
            try:
                async with session.post(f"{url}/graphql", json=query) as response:
                    answer = await response.json()
                    if answer["data"]["cacheStatus"]["head"]:
                        return
            except (aiohttp.ClientError, KeyError, TypeError):
                pass
            await asyncio.sleep(0.05)
    with log_path.open("rb") as log:
        raise StackError(f"The gateway did not start:\n{last_lines(log)}")
