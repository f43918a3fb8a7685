"""The gateway as a GitHub App: its tokens end, and nobody who uses it notices."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.github import App, GitHub, Limits
from tests.app_keys import KeyPair
from tests.clone import git
from tests.system import System, running
from tests.writes.asking import DRILL, attempt, write

READ = """
query Read($consistency: Consistency!) {
  sessions(consistency: $consistency) {
    totalCount
    nodes { markdown }
    provenance { source stale fallback verification }
  }
}
"""


@pytest.fixture
def app(app_keys: KeyPair) -> App:
    return App(77, "scribe", app_keys.public, installation=4711)


@pytest.fixture
async def github(repository: Path, app: App) -> AsyncIterator[GitHub]:
    async with GitHub(repository, apps=[app], limits=Limits.off()) as server:
        yield server


@pytest.fixture
async def system(github: GitHub, database_url: str, app_keys: KeyPair) -> AsyncIterator[System]:
    """A gateway that has no token of anybody's, with the key as hosting platforms keep it."""
    environment = {
        "GITHUB_TOKEN": "",
        "GITHUB_APP_ID": "77",
        "GITHUB_APP_PRIVATE_KEY": app_keys.private.replace("\n", r"\n"),
        "GITHUB_APP_INSTALLATION_ID": "4711",
    }
    async with running(github, database_url, environment) as gateway:
        await gateway.sync()
        yield gateway


async def test_a_token_that_ends_between_reads_and_writes_is_not_noticed(system: System) -> None:
    github = system.github
    old = github.head
    for number in range(3):
        github.apps.expire_tokens()
        verified = await system.ask(READ, consistency="VERIFIED")
        assert verified.errors == []
        assert verified.data["sessions"]["provenance"]["verification"] == "MATCHED"

        github.apps.expire_tokens()
        made = await write(system, "createSession", title=f"Note {number}", markdown="It is.\n")
        assert made["commit"]["oid"] == github.head

        github.apps.expire_tokens()
        changed = await write(system, "updateSession", id=DRILL, title=f"Title {number}")
        assert changed["commit"]["oid"] == github.head
        assert changed["cache"] == "UPDATED"

    assert github.requests.count("token") == 1 + 3 * 3
    authors = git(github.path, "log", "--format=%an <%ae>", f"{old}..main").decode().splitlines()
    assert authors == ["scribe[bot] <77+scribe[bot]@users.noreply.github.com>"] * 6


async def test_an_app_that_is_uninstalled_saves_nothing_and_is_told_what_to_do(
    system: System, app: App
) -> None:
    github = system.github
    old = github.head
    github.apps.known[app.id] = replace(app, installation=1)
    github.apps.expire_tokens()

    answer = await attempt(system, "createSession", title="Lost?", markdown="No.\n")
    assert answer.code == "MASTER_UNAVAILABLE"
    assert "GITHUB_APP_INSTALLATION_ID" in answer.errors[0]["message"]
    assert "Nothing was saved." in answer.errors[0]["message"]
    assert github.head == old

    answer = await system.ask(READ, consistency="MASTER")
    assert answer.code == "MASTER_UNAVAILABLE"
    answer = await system.ask(READ, consistency="CACHE")
    assert answer.errors == []

    github.apps.known[app.id] = app
    await write(system, "createSession", title="Back", markdown="Yes.\n")
