"""What the resolvers of one operation share: its reads, its writer and its loaders.

Loaders gather what sibling fields ask for into one statement or request.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from strawberry.dataloader import DataLoader
from strawberry.types import Info as StrawberryInfo

from api.access import Caller
from api.cache.rows import Columns
from api.documents.listing import Indexed, Listing, Page, Window
from api.gateway.gateway import Gateway, Operation
from api.gateway.views import View
from api.gateway.writes import Writer
from api.master.errors import MasterError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Asked(Generic[K]):
    """A question to one view."""

    view: View
    of: K


class Context:
    """Made anew for every operation."""

    def __init__(
        self, gateway: Gateway, writer: Writer, operation: Operation, caller: Caller
    ) -> None:
        self.caller = caller
        self.gateway = gateway
        self.writer = writer
        self.operation = operation
        self.saved: dict[str | int, str] = {}  # commits, by the key of the mutation in the answer

    @cached_property
    def documents(self) -> "DataLoader[Asked[tuple[str, Columns]], Indexed | None]":
        return _loader(_documents)

    @cached_property
    def texts(self) -> "DataLoader[Asked[_Text], str | MasterError | None]":
        return _loader(_texts)

    @cached_property
    def pages(self) -> DataLoader[Asked[tuple[Listing, Window, Columns]], Page]:
        return _loader(_pages)

    @cached_property
    def counts(self) -> DataLoader[Asked[Listing], int]:
        return _loader(lambda view, listings: view.counts(listings))

    @cached_property
    def project_paths(self) -> DataLoader[Asked[None], dict[str, str]]:
        return _loader(_project_paths)

    async def text(self, view: View, item: Indexed) -> str | None:
        """The Markdown of a document, or None if it is unreadable."""
        text = await self.texts.load(Asked(view, _Text(item)))
        if isinstance(text, MasterError):
            raise text
        return text


Info = StrawberryInfo[Context, None]


class _Text:
    """An item as a question for its text. Two are the same if they name the same content."""

    def __init__(self, item: Indexed) -> None:
        self.item = item

    def __hash__(self) -> int:
        return hash((self.item.document.path, self.item.document.revision))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Text) and (
            self.item.document.path == other.item.document.path
            and self.item.document.revision == other.item.document.revision
        )


def _loader(
    ask: Callable[[View, list[K]], Awaitable[Sequence[V]]],
) -> DataLoader[Asked[K], V]:
    async def load(questions: list[Asked[K]]) -> list[V | BaseException]:
        by_view: dict[View, list[int]] = defaultdict(list)
        for i, question in enumerate(questions):
            by_view[question.view].append(i)
        if len(by_view) == 1:  # it needs no task
            try:
                return list(await ask(questions[0].view, [question.of for question in questions]))
            except asyncio.CancelledError as error:
                return [error] * len(questions)  # or they were waited for in vain
        # A view that fails, fails for those alone who asked it.
        found = await asyncio.gather(
            *(ask(view, [questions[i].of for i in places]) for view, places in by_view.items()),
            return_exceptions=True,
        )
        answers: dict[int, V | BaseException] = {}
        for places, values in zip(by_view.values(), found, strict=True):
            if isinstance(values, BaseException):
                answers |= dict.fromkeys(places, values)
            else:
                answers |= dict(zip(places, values, strict=True))
        return [answers[i] for i in range(len(questions))]

    return DataLoader(load_fn=load)


async def _documents(view: View, asked: list[tuple[str, Columns]]) -> list[Indexed | None]:
    found: dict[tuple[str, Columns], Indexed] = {}
    for columns in dict.fromkeys(columns for _, columns in asked):
        paths = [path for path, wanted in asked if wanted == columns]
        found |= {(p, columns): item for p, item in (await view.documents(paths, columns)).items()}
    return [found.get(one) for one in asked]


async def _pages(view: View, asked: list[tuple[Listing, Window, Columns]]) -> list[Page]:
    found: dict[int, Page] = {}
    for columns in dict.fromkeys(columns for _, _, columns in asked):
        places = [i for i, (_, _, wanted) in enumerate(asked) if wanted == columns]
        pages = await view.pages([asked[i][:2] for i in places], columns)
        found |= zip(places, pages, strict=True)
    return [found[i] for i in range(len(asked))]


async def _texts(view: View, asked: list[_Text]) -> list[str | MasterError | None]:
    texts = await view.texts([text.item for text in asked])
    return [texts.get(text.item.document.path) for text in asked]


async def _project_paths(view: View, asked: list[None]) -> list[dict[str, str]]:
    paths = dict(await view.project_paths())
    return [paths for _ in asked]
