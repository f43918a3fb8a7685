"""Running what is measured: each server in a process of its own, until the stack ends."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import psutil

from api.cache.migrate import migrate
from sandbox.github import DEFAULT_TOKEN
from sandbox.postgres import Postgres
from sandbox.processes import free_port, fresh_log, last_lines, send, slay, spawn
from tests.bench import documents, postgraphile, queries
from tests.bench.load import HOST, family
from tests.bench.queries import Library

START_SECONDS = 60.0
STOP_SECONDS = 30.0
SYNC_SECONDS = 1800.0
QUIET_SECONDS = 30.0
REPOSITORY = "annoris/documents"


class NotStarted(Exception):
    """A server did not start. The message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    port: int
    pid: int

    def ask(self, path: str, body: bytes) -> Any:
        """The answer to one request, read."""
        return orjson.loads(self.answer(path, body))

    def answer(self, path: str, body: bytes | None, method: str = "POST") -> bytes:
        """The answer to one request, as it came."""
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}{path}",
            body,
            {"content-type": "application/json", "accept": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=START_SECONDS) as response:
            content: bytes = response.read()
        return content

    @property
    def resident(self) -> float:
        """Memory of the process in bytes."""
        return float(psutil.Process(self.pid).memory_info().rss)


def proportional(pid: int) -> float:
    """Memory of a process and its children in bytes, what they share counted once."""
    found = 0.0
    for one in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended just now
            found += one.memory_full_info().pss
    return found


@dataclass(frozen=True, slots=True)
class Site:
    """So many documents: a repository behind the stand-in, its cache, and the servers over it."""

    size: int
    directory: Path
    environment: Mapping[str, str]
    github: Server
    library: Library
    servers: dict[str, Server]

    @property
    def database_url(self) -> str:
        return self.environment["DATABASE_URL"]

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def file(self, name: str, content: bytes) -> str:
        """The path of a file with this content."""
        Path(self.path(name)).write_bytes(content)
        return self.path(name)

    def read(self, name: str) -> bytes:
        return Path(self.path(name)).read_bytes()

    def requests_to_github(self) -> int:
        """How many there were since this was asked last."""
        counts = self._asked()["counts"]
        self.github.answer("/_control/requests", None, "DELETE")
        return sum(counts.values())

    def seconds_of_mutations(self) -> list[float]:
        """How long GitHub took for each since the requests were asked for."""
        return [one["seconds"] for one in self._asked()["latest"] if one["kind"] == "mutation"]

    def wait_until_quiet(self) -> None:
        """Until GitHub is not asked for anything any more."""
        before, deadline = None, time.monotonic() + QUIET_SECONDS
        while time.monotonic() < deadline:
            asked = self._asked()
            if not asked["running"] and asked["counts"] == before:
                return
            before = asked["counts"]
            time.sleep(0.2)

    def _asked(self) -> Any:
        return orjson.loads(self.github.answer("/_control/requests?last=50", None, "GET"))

    def delay_github(self, milliseconds: int) -> None:
        """Let GitHub take so much longer for each request from now on."""
        self.github.answer("/_control/faults", None, "DELETE")
        if milliseconds:
            fault = {"kind": "latency", "ms": milliseconds, "count": None}
            self.github.answer("/_control/faults", orjson.dumps(fault))


async def build(stack: ExitStack, postgres: Postgres, size: int, directory: Path) -> Site:
    """A repository of so many sessions, and the cache in step with it."""
    repository, port = directory / "repository.git", free_port()
    paths = documents.make_repository(
        repository,
        size,
        written=queries.written(size),
        besides=queries.projects_and_priorities(),
    )
    command = [sys.executable, "-m", "sandbox.github", "--no-limits"]
    command += ["--repo", str(repository), "--port", str(port), "--name", REPOSITORY]
    github = start(stack, "GitHub's stand-in", command, port, directory)
    database = f"of_{size}"
    await postgres.create_database(database)
    url = postgres.url_of(database)
    await migrate(url)
    environment = {
        "DATABASE_URL": url,
        "GITHUB_API_URL": f"http://{HOST}:{port}",
        "GITHUB_TOKEN": DEFAULT_TOKEN,
        "GITHUB_REPOSITORY": REPOSITORY,
    }
    _sync(environment)
    library = await _library(url, paths)
    return Site(size, directory, environment, github, library, {})


def start_gateway(stack: ExitStack, site: Site, role: str, redis_url: str = "") -> Server:
    """As it is started in production."""
    port = free_port()
    environment = {
        **site.environment,
        "ANNORIS_ROLE": role,
        "REDIS_URL": redis_url,
        "HOST": HOST,
        "PORT": str(port),
    }
    command = [sys.executable, "-m", "api.cli", "start"]
    return start(stack, f"gateway ({role})", command, port, site.directory, environment=environment)


def start_rival(stack: ExitStack, name: str, argument: str, directory: Path) -> Server:
    """One of `tests.bench.servers`."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.servers", name, str(port), argument]
    return start(stack, name, command, port, directory)


def start_postgraphile(stack: ExitStack, site: Site) -> Server:
    """Raises postgraphile.NotFetched."""
    port = free_port()
    environment = {
        "DATABASE_URL": site.database_url,
        "PORT": str(port),
        "NODE_ENV": "production",
        "GRAPHILE_ENV": "production",
    }
    command = postgraphile.command()
    return start(stack, "postgraphile", command, port, site.directory, environment=environment)


def start(
    stack: ExitStack,
    name: str,
    command: Sequence[str],
    port: int,
    directory: Path,
    *,
    environment: Mapping[str, str] | None = None,
) -> Server:
    """Start a server that listens on `port`. Raises NotStarted."""
    log = stack.enter_context(fresh_log(directory / f"{name}.log"))
    process = spawn(
        command,
        log=log,
        account=None,
        reach=[],
        death_signal=signal.SIGTERM,
        environment={"PATH": os.environ["PATH"], **(environment or {})},
        directory=Path.cwd(),
    )
    stack.callback(_stop, process)
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return Server(name, port, process.pid)
    raise NotStarted(f"{name} did not start:\n{last_lines(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    send(process, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        slay(process)


def _sync(environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "sync", "--json"],
        env={"PATH": os.environ["PATH"], "DATABASE_TIMEOUT_SECONDS": "30", **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=SYNC_SECONDS,
    )
    if done.returncode:
        raise NotStarted(f"the first sync failed: {done.stderr}")


async def _library(database_url: str, paths: Sequence[str]) -> Library:
    connection = await asyncpg.connect(database_url)
    try:
        # What autovacuum does sooner or later; not in the middle of a measurement.
        await connection.execute("VACUUM (FREEZE, ANALYZE)")
        await connection.execute("CHECKPOINT")
        rows = await connection.fetch("SELECT path FROM sessions WHERE markdown IS NOT NULL")
        head = await connection.fetchval("SELECT commit FROM head")
    finally:
        await connection.close()
    hot = {row["path"] for row in rows}
    others = queries.projects_and_priorities()
    return Library(
        hot=[path for path in paths if path in hot],
        cold=[path for path in paths if path not in hot],
        projects=[path for path in others if "/projects/" in path],
        priorities=[path for path in others if "/priorities/" in path],
        head=head,
    )
