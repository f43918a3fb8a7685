"""The documents as agents see them."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import date, datetime
from operator import attrgetter
from typing import Any, Generic, NamedTuple, Self, TypeVar, cast

import strawberry
from strawberry import Private
from strawberry.scalars import JSON

from api.documents import (
    AnyDocument,
    Collection,
    body_of,
    excerpt,
    project_key,
)
from api.documents import Priority as PriorityDocument
from api.documents import Session as SessionDocument
from api.documents.listing import (
    Indexed,
    InvalidPage,
    Listing,
    Order,
    Page,
    Where,
    Window,
    cursor,
    window,
)
from api.gateway import provenance as told
from api.gateway.errors import BadInput, LimitExceeded
from api.gateway.views import View
from api.graphql.context import Asked, Context, Info
from api.graphql.scalars import GitObjectID
from api.graphql.selection import columns_under

_MAX_EXCERPT = 10_000  # characters

strawberry.enum(told.Consistency, description="Which index an answer trusts.")
strawberry.enum(told.Source, description="The store whose index an answer is from.")
strawberry.enum(
    told.FallbackReason, description="Why an answer did not come from where it was asked for."
)
strawberry.enum(told.Verification, description="What comparing cache and master showed.")


@strawberry.type(description="Where an answer came from, and how far to trust it.")
class Provenance:
    source: told.Source
    commit: GitObjectID = strawberry.field(description="The head that the answer is true for.")
    as_of: datetime = strawberry.field(
        description="When that head was last seen to be the master's."
    )
    age_seconds: float = strawberry.field(description="Seconds since `asOf`.")
    stale: bool = strawberry.field(
        description="Older than asked for, served because nothing better was reachable."
    )
    fallback: told.FallbackReason | None = strawberry.field(
        description="Why it did not come from where it was asked for."
    )
    verification: told.Verification | None = strawberry.field(
        description="What the comparison showed; VERIFIED reads only."
    )

    @classmethod
    def of(cls, source: told.Provenance) -> Self:
        return cls(
            source=source.source,
            commit=GitObjectID(source.commit),
            as_of=source.as_of,
            age_seconds=source.age_seconds,
            stale=source.stale,
            fallback=source.fallback,
            verification=source.verification,
        )


class Seeing:
    """How documents were seen. `view` opens the view for what hangs on them."""

    def __init__(self, provenance: told.Provenance, view: Callable[[], Awaitable[View]]) -> None:
        self.provenance = Provenance.of(provenance)
        self.view = view

    @classmethod
    def through(cls, view: View) -> Self:
        async def opened() -> View:
            return view

        return cls(view.provenance, opened)


class Seen(NamedTuple):
    """A document and how it was seen."""

    item: Indexed
    seeing: Seeing


@strawberry.interface(description="Something with an id.")
class Node:
    id: strawberry.ID


@strawberry.interface(description="One Markdown file. Its path in the repository is its id.")
class Document(Node):
    path: str
    revision: GitObjectID = strawberry.field(description="Blob oid: the hash of the content.")
    title: str
    metadata: JSON = strawberry.field(description="Front matter and header lines, as found.")
    bytes: int
    hot: bool = strawberry.field(description="Whether the body is kept in the cache.")
    unreadable: str | None = strawberry.field(
        description="Why the content cannot be understood. Such a document has no text here."
    )
    provenance: Provenance
    seen: Private[Seen]

    @strawberry.field(description="The file, byte for byte. Empty if it is `unreadable`.")
    async def markdown(self, info: Info) -> str:
        return await _text(info.context, self.seen)

    @strawberry.field(description="The text without front matter. Empty if it is `unreadable`.")
    async def body(self, info: Info) -> str:
        return body_of(await _text(info.context, self.seen))

    @strawberry.field(
        description="The beginning of the body as plain text. Empty if it is `unreadable`."
    )
    async def excerpt(self, info: Info, length: int = 280) -> str:
        if not 1 <= length <= _MAX_EXCERPT:
            raise LimitExceeded(f"An excerpt has 1 to {_MAX_EXCERPT} characters.")
        return excerpt(await _text(info.context, self.seen), length)


@strawberry.type(description="What happened once: a saved conversation, a day's work.")
class Session(Document):
    occurred_at: datetime | None = strawberry.field(
        description="When it was; null when the document does not tell."
    )
    status: str | None
    priority: str | None
    agent: str | None
    tags: list[str]

    @strawberry.field(description="The project that the document names, if there is one.")
    async def project(self, info: Info) -> "Project | None":
        return await _project_of(info, self.seen)


@strawberry.type(description="What sessions work on.")
class Project(Document):
    name: str
    status: str | None
    rank: int | None

    @strawberry.field(description="The sessions that name this project, newest first.")
    async def sessions(
        self, info: Info, first: int | None = 20, after: str | None = None
    ) -> "Connection[Session]":
        view = await self.seen.seeing.view()
        order = Order.OCCURRED_AT_DESC
        keys = await keys_of_project(info.context, view, self.path)
        listing = Listing(
            collection=Collection.SESSIONS, where=Where(project_keys=keys), order=order
        )
        return await connection(info, view, listing, read_window(order, first=first, after=after))


@strawberry.type(description="What matters next.")
class Priority(Document):
    rank: int | None
    status: str | None
    due_on: date | None

    @strawberry.field(description="The project that the document names, if there is one.")
    async def project(self, info: Info) -> Project | None:
        return await _project_of(info, self.seen)


AnyNode = Session | Project | Priority
N = TypeVar("N", Session, Project, Priority)


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type(description="A document in a list, and its place there.")
class Edge(Generic[N]):
    cursor: str
    node: N


@strawberry.type(description="A page of a list.")
class Connection(Generic[N]):
    page: Private[Page]
    listing: Private[Listing]
    view: Private[View]
    seeing: Private[Seeing]

    @strawberry.field
    def edges(self) -> list[Edge[N]]:
        order = self.listing.order
        return [
            Edge(cursor=cursor(order, item.document), node=node)
            for item, node in zip(self.page.items, self._documents(), strict=True)
        ]

    @strawberry.field
    def nodes(self) -> list[N]:
        return self._documents()

    @strawberry.field
    def page_info(self) -> PageInfo:
        order, items = self.listing.order, self.page.items
        return PageInfo(
            has_next_page=self.page.has_next,
            has_previous_page=self.page.has_previous,
            start_cursor=cursor(order, items[0].document) if items else None,
            end_cursor=cursor(order, items[-1].document) if items else None,
        )

    @strawberry.field
    def provenance(self) -> Provenance:
        return self.seeing.provenance

    @strawberry.field(description="The true total of the list, whatever its pages.")
    async def total_count(self, info: Info) -> int:
        return await info.context.counts.load(Asked(self.view, self.listing))

    def _documents(self) -> list[N]:
        """Of the one kind that the listing's collection has."""
        return [cast(N, document(Seen(item, self.seeing))) for item in self.page.items]


def document(seen: Seen) -> AnyNode:
    """The GraphQL object of a document."""
    node = _NODES[seen.item.collection].__new__(_NODES[seen.item.collection])
    node.seen = seen
    return node


def _read_when_asked(kind: type[AnyNode], *names: str) -> type[AnyNode]:
    """The type with fields that are read from the document itself: most are never asked for."""
    sources = {name: f"seen.item.document.{name}" for name in (*_SHARED, *names)}
    sources |= {"id": "seen.item.document.path", "provenance": "seen.seeing.provenance"}
    sources |= {name: f"seen.item.{name}" for name in ("hot", "unreadable")}
    return type(kind.__name__, (kind,), {n: property(attrgetter(s)) for n, s in sources.items()})


_SHARED = ("path", "revision", "title", "metadata", "bytes")
_NODES: Mapping[Collection, type[AnyNode]] = {
    Collection.SESSIONS: _read_when_asked(
        Session, "occurred_at", "status", "priority", "agent", "tags"
    ),
    Collection.PROJECTS: _read_when_asked(Project, "name", "status", "rank"),
    Collection.PRIORITIES: _read_when_asked(Priority, "rank", "status", "due_on"),
}


async def connection(
    info: Info, view: View, listing: Listing, page_window: Window
) -> Connection[Any]:
    """A page of a list as a Relay connection."""
    asked = (listing, page_window, columns_under(info))
    page: Page = await info.context.pages.load(Asked(view, asked))
    return Connection(page=page, listing=listing, view=view, seeing=Seeing.through(view))


def read_window(
    order: Order,
    *,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    before: str | None = None,
) -> Window:
    try:
        return window(order, first=first, after=after, last=last, before=before)
    except InvalidPage as error:
        raise BadInput(str(error)) from error


async def keys_of_project(context: Context, view: View, path: str) -> frozenset[str]:
    """The keys by which sessions name this project."""
    paths = await context.project_paths.load(Asked(view, None))
    return frozenset(key for key, owner in paths.items() if owner == path)


async def _text(context: Context, seen: Seen) -> str:
    """Empty for an unreadable document: an error would take the whole list along, as `markdown`
    is never null. `unreadable` tells it from an empty file.
    """
    if seen.item.unreadable:
        return ""
    if seen.item.markdown is not None:
        return seen.item.markdown
    text = await context.text(await seen.seeing.view(), seen.item)
    if text is None:
        raise LimitExceeded(
            f"{seen.item.document.path} was readable when it was indexed and is not now: "
            "MAX_DOCUMENT_BYTES was lowered. Raise it again, or rebuild the cache.",
            path=seen.item.document.path,
        )
    return text


async def _project_of(info: Info, seen: Seen) -> Project | None:
    written = _written_project(seen.item.document)
    if not written:
        return None
    view = await seen.seeing.view()
    paths = await info.context.project_paths.load(Asked(view, None))
    path = paths.get(project_key(written))
    if path is None:
        return None
    item = await info.context.documents.load(Asked(view, (path, columns_under(info))))
    node = document(Seen(item, Seeing.through(view))) if item else None
    return node if isinstance(node, Project) else None


def _written_project(found: AnyDocument) -> str | None:
    return found.project if isinstance(found, SessionDocument | PriorityDocument) else None
