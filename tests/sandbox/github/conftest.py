from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sandbox.github import GitHub, create_repository
from tests.sandbox.github.client import Client

FILES = {
    "README.md": b"# documents\n",
    "autosaves/2025/10/autosave_2025-10-20_one.md": b"# One\n",
    "autosaves/2025/10/autosave_2025-10-21_two.md": "# Два\n".encode(),
    "autosaves/projects/alpha.md": b"# Alpha\n",
    "tools/run.sh": b"#!/bin/sh\n",
}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository, made once; tests serve copies of it."""
    source = tmp_path_factory.mktemp("source")
    for path, content in FILES.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
    (source / "tools/run.sh").chmod(0o755)
    (source / "latest.md").symlink_to("README.md")
    target = tmp_path_factory.mktemp("template") / "documents.git"
    create_repository(target, source)
    return target


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    target = tmp_path / "documents.git"
    create_repository(target, template)
    return target


@pytest.fixture
async def github(path: Path) -> AsyncIterator[GitHub]:
    async with GitHub(path) as github:
        yield github


@pytest.fixture
async def client(github: GitHub) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield Client(github, session)
