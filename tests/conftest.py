"""What every test may lean on: a clean environment, one PostgreSQL and one Redis per run."""

import os

# Before anything of ours is imported: settings of the developer's shell (or of a CI job, which
# has GITHUB_* in plenty) must not reach a test. PG* would reconfigure asyncpg.
PREFIXES = (
    "AGENT_",
    "ALERT_",
    "ANNORIS_",
    "DATABASE_",
    "GITHUB_",
    "HOST",
    "MASTER_",
    "MAX_",
    "NIGHTLY_",
    "PG",
    "PORT",
    "PRIORITY_",
    "PROJECT_",
    "REDIS_",
    "RETENTION_",
    "SECRETS",
    "SESSION_",
    "SYNC_",
    "WRITE_",
)
for _name in list(os.environ):
    if _name.startswith(PREFIXES):
        del os.environ[_name]

import asyncio  # noqa: E402 - the environment comes first
import secrets  # noqa: E402
import signal  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import AsyncIterator, Coroutine, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from api.cache.migrate import migrate  # noqa: E402
from sandbox.github import GitHub, Limits, create_repository  # noqa: E402
from sandbox.postgres import UNSAFE_BUT_QUICK, Postgres  # noqa: E402
from sandbox.redis import Redis  # noqa: E402
from sandbox.stack import SAMPLES  # noqa: E402
from tests.app_keys import KeyPair  # noqa: E402
from tests.clone import Clone  # noqa: E402
from tests.corpus import corpus_bundle  # noqa: E402
from tests.system import System, running  # noqa: E402

# A shell that runs us in the background has SIGINT ignored, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, so that a red test is the change's fault; no deadline, because
# a machine may be slow. `HYPOTHESIS_PROFILE=deep pytest` goes looking for more.
settings.register_profile("default", derandomize=True, deadline=None, max_examples=150)
settings.register_profile("deep", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest: all others run beside them, and none waits."""
    longest = ("test_machine", "test_fuzz")
    items.sort(key=lambda item: tuple(name not in item.nodeid for name in longest))


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


@pytest.fixture(scope="session")
def template(postgres_server: Postgres) -> str:
    """A database with our tables and no rows, built by the real migrations."""
    run(postgres_server.create_database("template_of_ours"))
    run(migrate(postgres_server.url_of("template_of_ours")))
    return "template_of_ours"


@pytest.fixture
def database_url(postgres_server: Postgres, template: str) -> Iterator[str]:
    """The URL of a database of one's own, with our tables and no rows."""
    name = f"test_{secrets.token_hex(6)}"
    run(postgres_server.create_database(name, template=template))
    try:
        yield postgres_server.url_of(name)
    finally:
        run(postgres_server.drop_database(name))


@pytest.fixture
async def postgres(tmp_path: Path) -> AsyncIterator[Postgres]:
    """A PostgreSQL of one's own that may be killed or frozen, with our tables and no rows."""
    async with Postgres(tmp_path / "postgres", settings=UNSAFE_BUT_QUICK) as server:
        await migrate(server.url)
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A bare repository with the sample documents."""
    target = tmp_path / "repository.git"
    create_repository(target, SAMPLES)
    return target


@pytest.fixture
async def github(repository: Path) -> AsyncIterator[GitHub]:
    """The stand-in for GitHub over `repository`, without limits on what one may commit."""
    async with GitHub(repository, limits=Limits.off()) as server:
        yield server


@pytest.fixture(scope="session")
def app_keys() -> KeyPair:
    """The key pair of a GitHub App."""
    return KeyPair.new()


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Clone:
    """A clone of `repository`, to push from with plain git."""
    return Clone.of(repository, tmp_path / "clone")


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The bundle of real documents. Skips where it is absent."""
    return corpus_bundle()


@pytest.fixture
async def system(github: GitHub, database_url: str) -> AsyncIterator[System]:
    """The gateway over HTTP with the sample documents, its cache in step with the master."""
    async with running(github, database_url) as gateway:
        await gateway.sync()
        yield gateway
