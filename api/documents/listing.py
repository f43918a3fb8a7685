"""Lists: what may be asked of them, in which order, and where a page ends. Pure.

The cache answers the same questions in SQL; `page_of` is the meaning that both must have.
"""

import base64
import binascii
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TypeAlias

from api.documents import project_key
from api.documents.model import AnyDocument, Collection, Priority, Project, Session, Unreadable

MAX_PAGE = 100
USUAL_PAGE = 20  # entries of a page that is asked for without a size
UNDATED = datetime(1, 1, 1, tzinfo=UTC)  # sorts a session that does not tell when it was
UNRANKED = 2**31 - 1  # sorts a document without a rank
UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # what UTF-8 or PostgreSQL cannot hold; in no document
_MAX_KEY = 600  # characters of a project's key that count: more do not fit into an index

Key: TypeAlias = datetime | int | str
Position: TypeAlias = tuple[Key, str]


class InvalidPage(ValueError):
    """The page that was asked for makes no sense. The message says why."""


class Order(Enum):
    """How a list is ordered. Each is a total order: ties are broken by path.

    A descending order is the exact reverse of the ascending one. NUMBER_DESC is for records that
    are no documents: they are numbered, and have no path.
    """

    OCCURRED_AT_DESC = ("occurred", True)
    OCCURRED_AT_ASC = ("occurred", False)
    PATH_ASC = ("path", False)
    RANK_ASC = ("rank", False)
    NUMBER_DESC = ("number", True)

    @property
    def key(self) -> str:
        return self.value[0]

    @property
    def descending(self) -> bool:
        return self.value[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """One document as an index knows it.

    `markdown` is the text where it is at hand; `unreadable` the reason why it has none.
    """

    collection: Collection
    document: AnyDocument
    hot: bool = False
    unreadable: str | None = None
    markdown: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Conditions on sessions, all of which must hold. Texts match exactly, titles as a part."""

    project_keys: frozenset[str] | None = None
    status: str | None = None
    priority: str | None = None
    agent: str | None = None
    tag: str | None = None
    since: datetime | None = None  # inclusive
    until: datetime | None = None  # exclusive
    title_contains: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list: one collection, filtered and ordered."""

    collection: Collection
    where: Where
    order: Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A page of a list: `size` documents after `after` and before `before`, from either end."""

    size: int = USUAL_PAGE
    after: Position | None = None
    before: Position | None = None
    from_end: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    items: Sequence[Indexed]
    has_previous: bool
    has_next: bool


def unreadable(collection: Collection, broken: Unreadable) -> Indexed:
    """A place in the index for a document that cannot be read: titled by its file name."""
    common = {"path": broken.path, "revision": broken.revision, "bytes": broken.bytes}
    title = broken.path.rsplit("/", 1)[-1].removesuffix(".md")
    match collection:
        case Collection.SESSIONS:
            document: AnyDocument = Session(**common, title=title)  # type: ignore[arg-type]
        case Collection.PROJECTS:
            document = Project(**common, title=title, name=title)  # type: ignore[arg-type]
        case Collection.PRIORITIES:
            document = Priority(**common, title=title)  # type: ignore[arg-type]
    return Indexed(collection=collection, document=document, unreadable=broken.reason)


def key_of(order_key: str, document: AnyDocument) -> Key:
    """What a document is ordered by, before its path."""
    if order_key == "occurred" and isinstance(document, Session):
        return document.occurred_at or UNDATED
    if order_key == "rank" and isinstance(document, Project | Priority):
        return UNRANKED if document.rank is None else document.rank
    return ""


def position(order: Order, document: AnyDocument) -> Position:
    return key_of(order.key, document), document.path


def position_in(order: Order) -> Callable[[AnyDocument], Position]:
    """`position` for many documents."""
    name = order.key
    return lambda document: (key_of(name, document), document.path)


def matches(where: Where, document: AnyDocument) -> bool:
    if not isinstance(document, Session):
        return where == Where()
    since, until = where.since, where.until
    dated = document.occurred_at
    return (
        (
            where.project_keys is None
            or (
                document.project is not None
                and key_of_project(document.project) in map(cut_key, where.project_keys)
            )
        )
        and (where.status is None or document.status == where.status)
        and (where.priority is None or document.priority == where.priority)
        and (where.agent is None or document.agent == where.agent)
        and (where.tag is None or where.tag in document.tags)
        and (since is None or (dated is not None and dated >= since))
        and (until is None or (dated is not None and dated < until))
        and (where.title_contains is None or fold(where.title_contains) in fold(document.title))
    )


def fold(text: str) -> str:
    """Text for comparing without case, the same in every database."""
    return text.casefold()


def key_of_project(written: str) -> str:
    """What a session's or priority's word for its project is compared by."""
    return cut_key(project_key(written))


def cut_key(key: str) -> str:
    return key[:_MAX_KEY]


def page_of(listing: Listing, window: Window, index: Iterable[Indexed]) -> Page:
    """One page of a list, from a whole index in memory."""
    order = listing.order
    found = [item for item in index if matches(listing.where, item.document)]
    found.sort(key=lambda item: position(order, item.document), reverse=order.descending)
    start, end = 0, len(found)
    places = [position(order, item.document) for item in found]
    if order.descending:
        places.reverse()
    if window.after is not None:
        above = bisect_right(places, window.after)
        start = len(found) - bisect_left(places, window.after) if order.descending else above
    if window.before is not None:
        below = bisect_left(places, window.before)
        end = len(found) - bisect_right(places, window.before) if order.descending else below
    end = max(start, end)
    inside = found[start:end]
    page = inside[max(0, len(inside) - window.size) :] if window.from_end else inside[: window.size]
    cut = len(page) < len(inside)
    return Page(
        page,
        has_previous=cut if window.from_end else window.after is not None,
        has_next=window.before is not None if window.from_end else cut,
    )


def cursor(order: Order, document: AnyDocument) -> str:
    """The cursor of the place where a document is."""
    return cursor_at(order, position(order, document))


def cursor_at(order: Order, place: Position) -> str:
    """An opaque text that names a place in an ordered list, whether or not something is there."""
    key, path = place
    written = key.astimezone(UTC).isoformat() if isinstance(key, datetime) else key
    text = json.dumps([order.key, written, path], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(order: Order, text: str) -> Position:
    """The place that a cursor names. Raises InvalidPage when it is not a cursor of this order."""
    try:
        padded = text + "=" * (-len(text) % 4)
        name, written, path = json.loads(base64.urlsafe_b64decode(padded.encode()))
        if name == order.key and isinstance(path, str) and not UNSTORABLE.search(path):
            return _read_key(name, written), path
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError):
        raise InvalidPage("The cursor is not one that this list returned.") from None
    raise InvalidPage("The cursor belongs to a list in another order.")


def _read_key(order_key: str, written: object) -> Key:
    if order_key == "occurred" and isinstance(written, str):
        moment = datetime.fromisoformat(written)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    elif order_key in {"rank", "number"} and type(written) is int and abs(written) < 2**63:
        return written  # and no bool, which is an int as well
    elif order_key == "path" and written == "":
        return ""
    raise ValueError


def window(
    order: Order,
    *,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    before: str | None = None,
) -> Window:
    """A window from Relay's arguments. Raises InvalidPage when they contradict each other."""
    if first is not None and last is not None:
        raise InvalidPage("Ask for `first` or for `last`, not for both.")
    size = first if last is None else last
    if size is not None and not 0 <= size <= MAX_PAGE:
        raise InvalidPage(f"A page has 0 to {MAX_PAGE} entries; ask for the rest by cursor.")
    return Window(
        size=USUAL_PAGE if size is None else size,
        after=None if after is None else read_cursor(order, after),
        before=None if before is None else read_cursor(order, before),
        from_end=last is not None,
    )
