"""Pagination as GitHub does it: bounds demanded, 100 records at most, cursors checked."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sandbox.github import catalogue
from sandbox.github.call import Call

T = TypeVar("T")


@dataclass(frozen=True)
class Page:
    """The four arguments of a connection."""

    field: str
    first: int | None = None
    last: int | None = None
    after: str | None = None
    before: str | None = None

    def check(self) -> None:
        """Raise GitHub's error for bounds that are missing or out of range."""
        if self.first is None and self.last is None:
            raise catalogue.NO_PAGE_BOUNDS.error(field=self.field)
        for argument, count in (("first", self.first), ("last", self.last)):
            if count is not None and count > 100:
                raise catalogue.PAGE_TOO_LARGE.error(
                    count=count, field=self.field, argument=argument
                )
            if count is not None and count < 0:
                raise catalogue.PAGE_TOO_SMALL.error(field=self.field, argument=argument)


@dataclass(frozen=True)
class PageInfo:
    start_cursor: str | None
    end_cursor: str | None
    has_next_page: bool
    has_previous_page: bool


@dataclass(frozen=True)
class Edge(Generic[T]):
    node: T
    cursor: str


class Connection(Generic[T]):
    """One page of a list whose end is known."""

    def __init__(
        self, nodes: Sequence[T], offset: int, total: int, prefix: str, more: bool | None = None
    ) -> None:
        self.nodes = nodes
        self.total = total
        self.offset = offset
        self.prefix = prefix
        self._more = offset + len(nodes) < total if more is None else more

    def total_count(self, _call: Call) -> int | Awaitable[int]:
        return self.total

    def cursor(self, index: int) -> str:
        return f"{self.prefix} {self.offset + index}"

    @property
    def edges(self) -> list[Edge[T]]:
        return [Edge(node, self.cursor(index)) for index, node in enumerate(self.nodes)]

    @property
    def page_info(self) -> PageInfo:
        count = len(self.nodes)
        return PageInfo(
            start_cursor=self.cursor(0) if count else None,
            end_cursor=self.cursor(count - 1) if count else None,
            has_next_page=self._more,
            has_previous_page=self.offset > 0 and count > 0,
        )


def position(cursor: str, prefix: str) -> int:
    """The index that a cursor (`<prefix> <index>`) stands for."""
    head, _, index = cursor.rpartition(" ")
    if head != prefix or not index.isascii() or not index.isdigit():
        raise catalogue.CURSOR_INVALID.error(cursor=cursor)
    return int(index)


def window(page: Page, prefix: str, total: int) -> tuple[int, int]:
    """The half-open range of records that the arguments select."""
    start = position(page.after, prefix) + 1 if page.after is not None else 0
    stop = min(position(page.before, prefix), total) if page.before is not None else total
    if page.first is not None:
        stop = min(stop, start + page.first)
    if page.last is not None:
        start = max(start, stop - page.last)
    return min(start, total), max(min(start, total), stop)


def slice_page(items: Sequence[T], page: Page, prefix: str) -> Connection[T]:
    page.check()
    start, stop = window(page, prefix, len(items))
    return Connection(items[start:stop], start, len(items), prefix)
