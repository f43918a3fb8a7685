"""`Commit.history`: the order of git log, page by page, without holding up the event loop."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sandbox.github.breath import Breath
from sandbox.github.connections import Page, window
from sandbox.github.hosting import from_global_id
from sandbox.github.repository import Repository


@dataclass(frozen=True)
class Filter:
    path: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    emails: frozenset[str] | None = None

    @classmethod
    def of(
        cls,
        path: str | None,
        since: datetime | None,
        until: datetime | None,
        author: Mapping[str, object] | None,
        emails_of_login: Mapping[str, str],
    ) -> "Filter":
        emails: frozenset[str] | None = None
        if author is not None:
            found = from_global_id(str(author.get("id") or ""))
            listed = author.get("emails")
            if found is not None and found[0] == "user":
                # GitHub lets the id win over the emails.
                emails = frozenset(
                    email for email, login in emails_of_login.items() if login == found[1]
                )
            elif isinstance(listed, Sequence):
                emails = frozenset(str(email) for email in listed)
        return cls(path.strip("/") if path else None, since, until, emails)

    def accepts(self, repository: Repository, oid: str) -> bool:
        commit = repository.commit(oid)
        when = commit.committer.when
        return (
            (self.since is None or when >= self.since)
            and (self.until is None or when <= self.until)
            and (self.emails is None or commit.author.email in self.emails)
        )


async def walk(repository: Repository, start: str, wanted: Filter) -> AsyncIterator[str]:
    breath = Breath()
    for oid in repository.history(start, wanted.path):
        if oid is not None and wanted.accepts(repository, oid):
            yield oid
        await breath.take()


async def count(repository: Repository, start: str, wanted: Filter) -> int:
    total = 0
    async for _ in walk(repository, start, wanted):
        total += 1
    return total


@dataclass(frozen=True)
class Slice:
    oids: list[str]
    offset: int
    more: bool


async def read_page(repository: Repository, start: str, page: Page, wanted: Filter) -> Slice:
    """The commits of one page; only as much of the history is walked as the page needs."""
    page.check()
    # Cursors of a history start with the commit that it starts from.
    first, stop = window(page, start, 2**31)
    if page.last is not None and page.before is None and page.first is None:
        first, stop = window(page, start, await count(repository, start, wanted))
    oids: list[str] = []
    index = 0
    async for oid in walk(repository, start, wanted):
        if index >= stop:
            return Slice(oids, first, more=True)
        if index >= first:
            oids.append(oid)
        index += 1
    return Slice(oids, first, more=False)
