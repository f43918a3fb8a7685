"""A cache and the stand-in for GitHub, and a gateway process that begins with an empty memory."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from api.cache.cache import Cache
from api.cache.database import Database
from api.documents import Layout
from api.master.credentials import FixedToken
from api.master.master import Master
from api.master.transport import GitHub as Client
from api.sync.content import Content
from api.sync.reconcile import Outcome, Reconciler, SyncReport
from sandbox.github import GitHub
from tests.sync.oracle import assert_equals_master

LAYOUT = Layout(
    sessions=("autosaves",),
    projects=("autosaves/projects", "projects"),
    priorities=("autosaves/priorities",),
)
FOR_EVER = timedelta(days=36_500)  # so that every body stays hot


@dataclass
class Side:
    """Both stores, and reconciles that each begin with nothing in memory, as after a restart."""

    github: GitHub
    cache: Cache
    client: Client
    url: str  # of the database
    layout: Layout = LAYOUT
    max_bytes: int = 2_000_000
    retention: timedelta = FOR_EVER

    @property
    def master(self) -> Master:
        return Master(self.client, self.github.hosting.name, self.github.hosting.branch)

    @property
    def reconciler(self) -> Reconciler:
        master = self.master
        return Reconciler(
            master=master,
            cache=self.cache,
            content=Content(master, self.layout, max_bytes=self.max_bytes),
            layout=self.layout,
            retention=self.retention,
        )

    @property
    def repository(self) -> Path:
        return self.github.path

    async def sync(self) -> SyncReport:
        """Reconcile, and hold what was asked of GitHub for `asked`."""
        self.github.requests.clear()
        return await self.reconciler.run()

    @property
    def asked(self) -> list[str | None]:
        """The operations that GitHub was asked for, in order, since the last sync began."""
        return [request.operation_name for request in self.github.requests]

    async def build(self) -> None:
        assert (await self.sync()).outcome is Outcome.APPLIED

    async def check(self, commit: str | None = None) -> None:
        await assert_equals_master(
            self.cache, self.repository, self.layout, commit=commit, max_bytes=self.max_bytes
        )


@pytest.fixture
async def side(github: GitHub, database_url: str) -> AsyncIterator[Side]:
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_url, timeout=10))
        client = await stack.enter_async_context(
            Client(github.url, FixedToken(github.token), timeout=10)
        )
        yield Side(github, Cache(database, "ours"), client, database_url)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """GitHub is not asked again for what it does not know."""
    monkeypatch.setattr("api.master.master.PAUSES", ())


@pytest.fixture
def no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older head is believed at once, as it is when the cache's head is no longer new."""
    monkeypatch.setattr("api.sync.reconcile.LAG", timedelta(0))
