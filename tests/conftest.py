"""What every test may lean on: a clean environment, one PostgreSQL and one Redis per run."""

import os

# Before anything of ours is imported: settings of the developer's shell (or of a CI job, which
# has GITHUB_* in plenty) must not reach a test. PG* would reconfigure asyncpg.
OURS = frozenset({"HOST", "PORT", "LOG_LEVEL", "ENVIRONMENT", "API_KEYS", "API_TOKENS"})
PREFIXES = ("ANNORIS_", "DATABASE_", "GITHUB_", "PG", "RAILWAY_", "REDIS_", "SYNC_", "WEBHOOK_")
for _name in list(os.environ):
    if _name in OURS or _name.startswith(PREFIXES):
        del os.environ[_name]

import asyncio  # noqa: E402 - the environment comes first
import secrets  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Coroutine, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from sandbox.postgres import UNSAFE_BUT_QUICK, Postgres  # noqa: E402
from sandbox.redis import Redis  # noqa: E402

# The same examples every time, so that a red test is the change's fault; no deadline, because
# a machine may be slow. `HYPOTHESIS_PROFILE=deep pytest` goes looking for more.
settings.register_profile("default", derandomize=True, deadline=None)
settings.register_profile("deep", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def run(work: Coroutine[object, object, None]) -> None:
    """Await in a synchronous fixture, on a loop of its own.

    The servers are bound to no loop, so that fixtures of any scope and synchronous tests can
    use them. Unlike `asyncio.run` this leaves the current loop alone, which pytest-asyncio owns.
    """
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(work)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The one PostgreSQL of this run. Tests that freeze or kill a server start their own."""
    with tempfile.TemporaryDirectory(prefix="annoris-tests-") as directory:
        server = Postgres(Path(directory) / "postgres", settings=UNSAFE_BUT_QUICK)
        run(server.start())
        try:
            yield server
        finally:
            run(server.stop())


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """The one Redis of this run. Tests that freeze or kill a server start their own."""
    server = Redis()
    run(server.start())
    try:
        yield server
    finally:
        run(server.stop())


@pytest.fixture
def database_url(postgres_server: Postgres) -> Iterator[str]:
    """The URL of a new and empty database that nobody else uses."""
    name = f"test_{secrets.token_hex(6)}"
    run(postgres_server.create_database(name))
    try:
        yield postgres_server.url_of(name)
    finally:
        run(postgres_server.drop_database(name))
