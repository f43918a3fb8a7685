"""A PostgreSQL that tests may kill, and a cache in a database of its own."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from api.cache.cache import Cache
from api.cache.database import Database
from sandbox.postgres import UNSAFE_BUT_QUICK, Postgres
from tests.conftest import run


@pytest.fixture(scope="module")
def own_server() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="annoris-tests-") as directory:
        server = Postgres(Path(directory) / "postgres", settings=UNSAFE_BUT_QUICK)
        run(server.start())
        try:
            yield server
        finally:
            run(server.stop())


@pytest.fixture
async def server(own_server: Postgres) -> AsyncIterator[Postgres]:
    """A PostgreSQL that may be killed, frozen or stopped. It runs again after the test."""
    yield own_server
    await own_server.start()


@pytest.fixture
async def database(server: Postgres) -> AsyncIterator[Database]:
    """Two seconds are long for a local server, and short to wait for a frozen one."""
    async with Database(server.url, timeout=2) as database:
        yield database


@pytest.fixture
async def cache(database_url: str) -> AsyncIterator[Cache]:
    async with Database(database_url, timeout=10) as database:
        yield Cache(database, "ours")
