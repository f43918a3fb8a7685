"""Paging through a list while it changes: every document that stays is met once, and in order.

A document stays if at each commit that a page was read at it is in the list with the same sort key
and path. One whose key changes is another entry: it may be met at both places, or at none.
"""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.documents import Collection, Priority, Project, Session
from sandbox.github import GitHub
from tests.filling import fill
from tests.sync.oracle import commit as push
from tests.system import System, running
from tests.truth import LEVELS, ROOM, Shown, Truth, Where
from tests.wire import Wire

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
PATIENT = {"DATABASE_TIMEOUT_SECONDS": "10"}  # so that no busy machine is taken for a dead one
_PAGE = "totalCount edges { cursor node { id } } provenance { commit }"
_INFO = "pageInfo { hasNextPage hasPreviousPage }"
SESSIONS = f"""
query Page($first: Int, $after: String, $last: Int, $before: String, $where: SessionFilter,
           $order: SessionOrder! = OCCURRED_AT_DESC, $level: Consistency!) {{
  page: sessions(first: $first, after: $after, last: $last, before: $before, where: $where,
                 orderBy: $order, consistency: $level) {{ {_PAGE} {_INFO} }}
}}
"""
RANKED = f"""
query Page($first: Int, $after: String, $level: Consistency!) {{
  page: %s(first: $first, after: $after, consistency: $level) {{ {_PAGE} {_INFO} }}
}}
"""
NESTED = f"""
query Page($first: Int, $after: String, $level: Consistency!) {{
  project(id: "{ROOM}", consistency: $level) {{
    page: sessions(first: $first, after: $after) {{ {_PAGE} {_INFO} }} }}
}}
"""

Key = Callable[[Shown, str], Any]  # what a document is ordered by


def by_time(shown: Shown, path: str) -> Any:
    document = shown.documents[path].document
    assert isinstance(document, Session)
    return document.occurred_at or datetime(1, 1, 1, tzinfo=UTC), path


def by_path(_: Shown, path: str) -> Any:
    return path


def by_rank(shown: Shown, path: str) -> Any:
    document = shown.documents[path].document
    assert isinstance(document, Project | Priority)
    return document.rank is None, document.rank or 0, path


@dataclass(frozen=True)
class List:
    """A list: how it is asked for, and what git says that it holds, in its order."""

    query: str
    says: Callable[[Shown], Sequence[str]]
    key: Key
    variables: dict[str, Any] = field(default_factory=dict)
    descending: bool = False


def sessions(order: str, where: Where | None = None) -> List:
    return List(
        SESSIONS,
        lambda shown: shown.sessions(where, order),
        by_path if order == "PATH_ASC" else by_time,
        {"order": order, "where": where},
        order.endswith("DESC"),
    )


OPEN = {"status": "open"}
OF_ROOM = {"project": ROOM}
EVERY_LIST = {
    "newest": sessions("OCCURRED_AT_DESC"),
    "newest-open": sessions("OCCURRED_AT_DESC", OPEN),
    "oldest": sessions("OCCURRED_AT_ASC"),
    "oldest-of-a-project": sessions("OCCURRED_AT_ASC", OF_ROOM),
    "by-path": sessions("PATH_ASC"),
}
FORWARD_ONLY = [
    List(RANKED % "projects", lambda s: s.ranked(Collection.PROJECTS), by_rank),
    List(RANKED % "priorities", lambda s: s.ranked(Collection.PRIORITIES), by_rank),
    List(NESTED, lambda s: s.sessions(OF_ROOM), by_time, descending=True),
]


def text(number: int, more: str = "") -> bytes:
    """Some share a time, some have none; half are open, a third belongs to the project."""
    day = START + timedelta(days=number // 3)
    time = f"occurred_at: {day.isoformat()}\n" if number % 5 else ""
    project = "project: Reading room\n" if number % 3 else ""
    rank = f"rank: {number // 2}\n" if number % 4 else ""
    status = ("open", "done")[number % 2]
    return f"---\ntitle: T\n{time}{project}{rank}status: {status}\n---\n{more}\n".encode()


class Stage:
    """A gateway, and others who change what it lists."""

    def __init__(self, system: System, wire: Wire, database_url: str) -> None:
        self.system = system
        self.wire = wire
        self.database_url = database_url
        self.github = system.github
        self.truth = Truth(self.github.path)
        self.random = random.Random(1)
        self.added = 100

    def change(self) -> None:
        """Add, remove, rename, edit, and date anew: some of it ahead of a reader, some behind."""
        shown = self.truth.at(self.github.head or "")
        choose = self.random.choice
        changes: dict[str | bytes, Any] = {}
        for directory in ("autosaves", "autosaves/projects", "autosaves/priorities"):
            inside = [path for path in shown.documents if path.rpartition("/")[0] == directory]
            inside = sorted(set(inside) - {ROOM})
            gone, renamed, edited, moved = self.random.sample(inside, 4)
            self.added += 1
            number = self.random.randrange(30)
            changes |= {
                f"{directory}/{choose('amz')}{self.added}.md": text(number),
                gone: None,
                renamed: None,
                f"{directory}/{choose('bny')}{self.added}.md": self._text_of(shown, renamed),
                edited: self._text_of(shown, edited) + b"Edited.\n",
                moved: text(self.random.randrange(30), "Moved."),
            }
        push(self.github.path, changes)

    def _text_of(self, shown: Shown, path: str) -> bytes:
        return (shown.documents[path].markdown or "").encode()

    async def disturb(self) -> None:
        """What happens between two pages."""
        if self.random.random() < 0.6:
            self.change()
        if self.random.random() < 0.5:
            await fill(self.github, self.database_url)
        match self.random.randrange(4):
            case 0:
                await self.wire.refuse()
            case 1:
                await self.wire.heal()
            case 2:
                self.wire.cut()


@pytest.fixture
async def stage(github: GitHub, database_url: str) -> AsyncIterator[Stage]:
    directories = ("autosaves", "autosaves/projects", "autosaves/priorities")
    names = [f"{chr(97 + number)}{number}.md" for number in range(18)]
    push(
        github.path,
        {f"{place}/{name}": text(i) for place in directories for i, name in enumerate(names)},
    )
    await fill(github, database_url)
    async with (
        Wire.to_postgres(database_url) as wire,
        running(github, wire.url_of(database_url), PATIENT) as system,
    ):
        yield Stage(system, wire, database_url)


@dataclass(frozen=True)
class Page:
    commit: str
    paths: Sequence[str]


async def read_all(stage: Stage, listed: List, *, backward: bool = False) -> list[Page]:
    """Every page to the end. Each is what git says there is beyond the cursor, at its commit."""
    pages: list[Page] = []
    cursor: str | None = None
    beyond: Any = None  # where the cursor is
    sizes = iter(stage.random.sample(range(1, 8), 7) * 20)
    for size in sizes:
        asked: dict[str, Any] = (
            {"last": size, "before": cursor} if backward else {"first": size, "after": cursor}
        )
        level = stage.random.choice(LEVELS)
        answer = await stage.system.ask(listed.query, level=level, **listed.variables, **asked)
        assert answer.errors == []
        data = answer.data.get("page") or answer.data["project"]["page"]
        told = data["provenance"]
        shown = stage.truth.at(told["commit"])
        said = listed.says(shown)
        rest = list(said[::-1] if backward else said)
        is_up = listed.descending == backward  # the keys grow from page to page
        if beyond is not None:
            rest = [
                path
                for path in rest
                if (listed.key(shown, path) > beyond) == is_up and listed.key(shown, path) != beyond
            ]
        found = [edge["node"]["id"] for edge in data["edges"]]
        in_passing = found[::-1] if backward else found
        assert in_passing == rest[:size]
        assert data["totalCount"] == len(said)
        has_more = data["pageInfo"]["hasPreviousPage" if backward else "hasNextPage"]
        assert has_more == (len(rest) > size)
        pages.append(Page(told["commit"], in_passing))
        if not has_more:
            return pages
        cursor = data["edges"][0 if backward else -1]["cursor"]
        beyond = listed.key(shown, in_passing[-1])
        await stage.disturb()
    raise AssertionError("the pages have no end")


def check(stage: Stage, listed: List, pages: Sequence[Page]) -> None:
    """Who stays is met once. Nobody is met twice without having moved, been away or come anew."""
    met = [path for page in pages for path in page.paths]
    shown = [stage.truth.at(page.commit) for page in pages]
    entries = [{(path, listed.key(s, path)) for path in listed.says(s)} for s in shown]
    stayed = {path for path, _ in set.intersection(*entries)}
    assert len(stayed) >= 3, "there was too little to be found"
    assert {path: met.count(path) for path in stayed} == dict.fromkeys(stayed, 1)


@pytest.mark.parametrize("name", EVERY_LIST)
async def test_every_session_that_stays_is_met_once_and_in_order(stage: Stage, name: str) -> None:
    listed = EVERY_LIST[name]
    for backward in (False, True):
        check(stage, listed, await read_all(stage, listed, backward=backward))


async def test_every_project_and_priority_that_stays_is_met_once_and_in_order(
    stage: Stage,
) -> None:
    for listed in FORWARD_ONLY:
        check(stage, listed, await read_all(stage, listed))
