"""The production client in front of the stand-in for GitHub, over real HTTP."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from api.master.credentials import FixedToken
from api.master.master import Master
from api.master.transport import GitHub as Client
from sandbox.github import GitHub, create_repository
from sandbox.stack import SAMPLES
from tests.master.scripted import Said, Scripted

TOKEN = "ghp_never-to-be-seen"


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository with the sample documents, made once; tests serve copies of it."""
    target = tmp_path_factory.mktemp("samples") / "repository.git"
    create_repository(target, SAMPLES)
    return target


@pytest.fixture
def repository(samples: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(samples, tmp_path / "repository.git"))


@pytest.fixture
async def client(github: GitHub) -> AsyncIterator[Client]:
    async with Client(github.url, FixedToken(github.token), timeout=10) as client:
        yield client


@pytest.fixture
def master(client: Client, github: GitHub) -> Master:
    return Master(client, github.hosting.name, github.hosting.branch)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks again at once, for answers that stay wrong however long one waits."""
    monkeypatch.setattr("api.master.master.PAUSES", (0.0, 0.0))
    monkeypatch.setattr("api.master.ledger.PAUSES", (0.0, 0.0))


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    scripted = Scripted()
    scripted.say(Said.json({"data": {}}))
    runner = web.ServerRunner(web.Server(scripted.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    scripted.url = "http://{}:{}".format(*runner.addresses[0])
    yield scripted
    await runner.cleanup()


@pytest.fixture
async def scripted_client(scripted: Scripted) -> AsyncIterator[Client]:
    async with Client(scripted.url, FixedToken(TOKEN), timeout=10) as client:
        yield client
