"""Documents as hypothesis draws them: from few values, so that they collide, and from odd ones."""

import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import strategies as st

from api.cache.changing import IndexChange
from api.cache.rows import Upsert
from api.cache.snapshot import CachedHead
from api.documents import AnyDocument, Collection, Json, Priority, Project, Session, blob_oid
from api.documents.listing import Indexed

SEEN = datetime(2026, 11, 20, 12, tzinfo=UTC)

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
NFC = unicodedata.normalize("NFC", "autosaves/йод.md")
NFD = unicodedata.normalize("NFD", NFC)
PATHS = (
    "a.md",
    "A.md",
    "a/b.md",
    "a b.md",
    "a-b.md",
    "ab.md",
    "ä.md",
    "я.md",
    "Я.md",
    "🔥.md",
    "\uffee.md",  # after the fire in UTF-16, before it in UTF-8
    NFC,
    NFD,
    "%.md",
    "_.md",
    "\\.md",
)
TITLES = (
    "100% sure",
    "100 sure",
    "a_b",
    "axb",
    "a\\b",
    "a/b",
    "Straße",
    "STRASSE",
    "Отчёт",
    "ОТЧЁТ",
)
WORDS = ("done", "Done", "в работе", "%")
PROJECTS = ("Annoris", "annoris", "projects/annoris.md", "сад", " ", "💥")
MOMENTS = (FIRST, datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 1, 12, tzinfo=UTC), LAST)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
metadata: st.SearchStrategy[dict[str, Json]] = st.dictionaries(
    texts,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)
ranks = st.none() | st.sampled_from([-(2**31) + 1, -1, 0, 1, 2, 3, 2**31 - 1])


def _maybe(values: Sequence[str]) -> st.SearchStrategy[str | None]:
    return st.none() | st.sampled_from(values)


@st.composite
def documents(draw: st.DrawFn, collection: Collection, path: str, *, odd: bool) -> AnyDocument:
    """A document; with `odd` its texts and numbers are any that a document can have."""

    def text(values: Sequence[str]) -> str | None:
        return draw(st.none() | texts if odd else _maybe(values))

    common: dict[str, Any] = {
        "path": path,
        "revision": blob_oid(path.encode()),
        "bytes": draw(st.integers(0, 2_000_000)),
        "title": draw(texts if odd else st.sampled_from(TITLES)),
        "metadata": draw(metadata) if odd else {},
    }
    match collection:
        case Collection.SESSIONS:
            moments = st.sampled_from(MOMENTS)
            if odd:
                moments |= st.datetimes(timezones=st.just(UTC))
            tags = st.lists(texts if odd else st.sampled_from(WORDS), max_size=3)
            return Session(
                **common,
                occurred_at=draw(st.none() | moments),
                status=text(WORDS),
                project=text(PROJECTS),
                priority=text(WORDS),
                agent=text(WORDS),
                tags=tuple(draw(tags)),
            )
        case Collection.PROJECTS:
            name = draw(texts if odd else st.sampled_from(PROJECTS))
            return Project(**common, name=name, status=text(WORDS), rank=draw(ranks))
        case Collection.PRIORITIES:
            return Priority(
                **common,
                rank=draw(ranks),
                status=text(WORDS),
                project=text(PROJECTS),
                due_on=draw(st.none() | st.sampled_from([date.min, date.max]) | st.dates()),
            )


@st.composite
def indexes(
    draw: st.DrawFn, collection: Collection, *, odd: bool = False, size: int = len(PATHS)
) -> list[Indexed]:
    """Documents of one collection, at different paths."""
    paths = draw(st.lists(st.sampled_from(PATHS), unique=True, max_size=size))
    return [
        Indexed(collection=collection, document=draw(documents(collection, path, odd=odd)))
        for path in paths
    ]


def rebuild(items: Sequence[Indexed], changed_at: datetime = SEEN) -> IndexChange:
    """A change after which the index holds these documents and no others."""
    return IndexChange(
        head=CachedHead("c" * 40, SEEN),
        directories={},
        upserts=[Upsert(item=item, changed_at=changed_at) for item in items],
        anew=True,
    )
