"""Whatever history others write, and whatever the gateway writes meanwhile: the cache follows it.

The oracle is git alone: `git ls-tree` and `git cat-file` at the commit that the cache is at.
"""

import asyncio
import itertools
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.cache.cache import Cache
from api.cache.database import Database
from api.master.credentials import FixedToken
from api.master.transport import GitHub as Client
from api.sync.health import check_health
from api.sync.reconcile import Outcome
from sandbox.github import GitHub, Limits
from tests.clone import git
from tests.sync.conftest import Side
from tests.sync.oracle import EXECUTABLE, SYMLINK, commit, head_of
from tests.system import System, running

NAMES = ("a", "b", "Ж", "ж", "x y")
DIRECTORIES = ("autosaves", "autosaves/2026", "autosaves/2026/11", "autosaves/projects", "else")
PATHS = [f"{directory}/{name}.md" for directory in DIRECTORIES for name in NAMES]
OTHERS = ["autosaves/LATEST.json", "autosaves/2026/run.sh", "README.md", "autosaves/2026.md/x.md"]

contents = st.sampled_from([b"", b"# A\n", b"# B\r\n", b"---\ntitle: T\n---\nx", b"\xff", b"\0"])
places = st.sampled_from(PATHS)


@dataclass(frozen=True)
class Put:
    """Add or edit."""

    path: str
    content: bytes
    mode: str = "100644"


@dataclass(frozen=True)
class Remove:
    path: str


@dataclass(frozen=True)
class Move:
    """A document, or a directory with all that is in it."""

    old: str
    new: str


@dataclass(frozen=True)
class Return:
    """To the tree of an earlier commit: as a new commit (a revert), or by setting the branch back.

    `back`: how many commits, modulo those that there are.
    """

    back: int
    force: bool


@dataclass(frozen=True)
class BeginAnew:
    """A history that has nothing in common with the one before."""

    path: str


Step = Put | Remove | Move | Return | BeginAnew

steps = st.one_of(
    st.builds(Put, places | st.sampled_from(OTHERS), contents),
    st.builds(Put, places, contents, st.sampled_from([EXECUTABLE, SYMLINK])),
    st.builds(Remove, places | st.sampled_from(DIRECTORIES)),
    st.builds(Move, places, places),
    st.builds(Move, st.sampled_from(DIRECTORIES), st.sampled_from(DIRECTORIES)),
    st.builds(Return, st.integers(1, 5), st.booleans()),
    st.builds(BeginAnew, places),
)


@dataclass
class History:
    """Another writer, who has all that git can."""

    repository: Path
    commits: list[str] = field(default_factory=list)

    def take(self, step: Step) -> None:
        match step:
            case Put():
                self._commit({step.path: (step.mode, step.content or b"x")})
            case Remove():
                self._commit({step.path: None})
            case Move():
                self._move(step.old, step.new)
            case Return(force=True):
                git(self.repository, "update-ref", "refs/heads/main", self._earlier(step.back))
            case Return():
                tree = f"{self._earlier(step.back)}^{{tree}}"
                head = git(
                    self.repository, "commit-tree", "-p", "main", "-m", "Revert", tree
                ).decode()
                git(self.repository, "update-ref", "refs/heads/main", head.strip())
            case BeginAnew():
                commit(self.repository, {step.path: b"# Anew\n"}, parent=None)
        self.commits.append(head_of(self.repository))

    def _commit(self, files: dict[str | bytes, bytes | tuple[str, bytes] | None]) -> None:
        commit(self.repository, files)

    def _move(self, old: str, new: str) -> None:
        """As fast-import has it: whatever was at the new path makes way."""
        listed = git(self.repository, "ls-tree", "-r", "--name-only", "-z", "main", "--", old)
        inside = [path.decode() for path in listed.split(b"\0") if path]
        if old == new or not inside or new.startswith(f"{old}/"):
            return
        files: dict[str | bytes, bytes | tuple[str, bytes] | None] = {old: None}
        for path in inside:
            content = git(self.repository, "cat-file", "blob", f"main:{path}")
            files[new + path.removeprefix(old)] = content
        self._commit(files)

    def _earlier(self, back: int) -> str:
        return self.commits[-1 - back % len(self.commits)]


ids = itertools.count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("histories")


@asynccontextmanager
async def sides(folder: Path, url: str) -> AsyncIterator[tuple[Side, History]]:
    """Both stores of a repository of its own, whose cache begins empty."""
    repository = folder / f"{next(ids)}.git"
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(repository))
    commit(repository, {"autosaves/first.md": b"# First\n"}, parent=None)
    async with (
        GitHub(repository, limits=Limits.off()) as github,
        Database(url, timeout=10) as database,
        Client(github.url, FixedToken(github.token), timeout=10) as client,
    ):
        side = Side(github, Cache(database, repository.name), client, url)
        yield side, History(repository, [head_of(repository)])


ours = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ours
@given(pushes=st.lists(st.lists(steps, min_size=1, max_size=4), min_size=1, max_size=6))
@pytest.mark.usefixtures("no_lag", "no_pauses")
async def test_after_every_reconcile_the_cache_is_what_git_says(
    folder: Path, database_url: str, pushes: list[list[Step]]
) -> None:
    async with sides(folder, database_url) as (side, history):
        await side.build()
        for push in pushes:
            for step in push:
                history.take(step)
            assert (await side.sync()).outcome in {Outcome.APPLIED, Outcome.UNCHANGED}
            await side.check()
        report = await check_health(side.reconciler)
        assert (report.drift, report.requests) == ({}, 1)


CREATE = """
mutation Create($title: String!) {
  createSession(input: {title: $title, markdown: "x"}) { commit { oid } }
}
"""


@settings(ours, max_examples=8)
@given(rounds=st.lists(st.tuples(steps, st.integers(1, 3)), min_size=1, max_size=5))
@pytest.mark.usefixtures("no_lag", "no_pauses")
async def test_while_the_gateway_writes_as_well(
    folder: Path, database_url: str, rounds: list[tuple[Step, int]]
) -> None:
    """Pushes, writes and syncs at once; then quiet, and one sync."""
    async with (
        sides(folder, database_url) as (side, history),
        running(side.github, database_url, {"WRITE_TIMEOUT_SECONDS": "20"}) as system,
    ):
        for step, writes in rounds:
            _, *answers = await asyncio.gather(
                _settle(system),
                *(_write(system, n) for n in range(writes)),
                asyncio.to_thread(_push, history, step),
            )
            assert answers
        await _settle(system)
        inner = Side(side.github, system.parts.gateway.cache, side.client, database_url)
        await inner.check()


async def _settle(system: System) -> None:
    """Reconcile until there is nothing left to do."""
    for _ in range(50):
        if (await system.parts.reconciler.run()).outcome is Outcome.UNCHANGED:
            return
    raise AssertionError("the cache does not come to the master's head")


async def _write(system: System, n: int) -> None:
    answer = await system.ask(CREATE, title=f"Session {n}")
    assert answer.code in {None, "MASTER_UNAVAILABLE", "OUTCOME_UNKNOWN"}


def _push(history: History, step: Step) -> None:
    """As others do it: again, when somebody else was faster."""
    for _ in range(20):
        with suppress(subprocess.CalledProcessError):
            return history.take(step)
    raise AssertionError("the push never got through")
