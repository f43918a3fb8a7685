"""What is put into a row comes out of it, whatever a document says."""

import json
import random
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.cache.cache import Cache
from api.cache.rows import WITH_BODIES, Upsert, is_hot
from api.documents import (
    AnyDocument,
    Collection,
    Priority,
    Project,
    Session,
    blob_oid,
    parse,
)
from api.documents.listing import Indexed
from tests.cache.documents import SEEN, indexes, rebuild

CUTOFF = datetime(2026, 10, 21, tzinfo=UTC)


async def stored(cache: Cache, items: list[Indexed]) -> list[Indexed]:
    """The same documents, as the cache gives them back."""
    async with cache.snapshot() as snapshot:
        expected = snapshot.head.commit if snapshot.head else None
    assert await cache.apply(rebuild(items), expected=expected)
    async with cache.snapshot() as snapshot:
        found = await snapshot.documents([item.document.path for item in items], WITH_BODIES)
    return [found[item.document.path] for item in items]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), collection=st.sampled_from(Collection))
async def test_every_document_comes_back_as_it_was(
    cache: Cache, data: st.DataObject, collection: Collection
) -> None:
    items = data.draw(indexes(collection, odd=True, size=4))
    found = await stored(cache, items)
    assert found == items
    # Equal is not enough for what people see: 1 equals 1.0 and true, and -0.0 equals 0.0.
    for item, other in zip(items, found, strict=True):
        assert json.dumps(item.document.metadata) == json.dumps(other.document.metadata)


@pytest.mark.parametrize(
    "front_matter",
    [
        "n: 1e400",
        "n: 1e300",
        "n: 1e23",
        "n: -0.0",
        "n: .nan",
        f"n: {'7' * 5000}",
        f"status: {'7' * 5000}",
        'n: "\\0"',
        'title: "\\ud800"',
        '"\\0": 1',
        f"n: {'[' * 60}{']' * 60}",
        "date: 0001-01-01T00:00:00+14:00",
        "date: 9999-12-31T23:59:59-14:00",
        "z: 1\na: 2",
    ],
)
async def test_what_hostile_front_matter_says_can_be_stored(
    cache: Cache, front_matter: str
) -> None:
    content = f"---\n{front_matter}\n---\n# T\n"
    session = parse(Collection.SESSIONS, "autosaves/t.md", content.encode())
    assert isinstance(session, Session)
    item = Indexed(collection=Collection.SESSIONS, document=session, hot=True, markdown=content)

    [found] = await stored(cache, [item])

    assert found == item
    assert json.dumps(found.document.metadata) == json.dumps(session.metadata)


async def test_the_longest_texts_fit_into_every_index(cache: Cache) -> None:
    """An index of PostgreSQL takes 2,704 bytes. One document must not stop the sync of all."""
    chance = random.Random(1)

    def noise(length: int) -> str:
        """Incompressible, four bytes a character."""
        return "".join(chr(chance.randrange(0x20000, 0x2A6D0)) for _ in range(length))

    squared = [chr(c) for c in range(0x3300, 0x3358)]  # one character each, slugs of up to ten
    wide = [unicodedata.normalize("NFC", c) for c in "ΐΰﬃﬄ"]  # three characters when folded
    session = Session(
        path="autosaves/" + noise(253),
        revision=blob_oid(b""),
        bytes=0,
        title=noise(1000),
        status=noise(500),
        priority=noise(500),
        agent=noise(500),
        tags=tuple(noise(500) for _ in range(50)),
    )
    projects = [
        noise(500),
        "".join(chance.choices(squared, k=500)),
        f"{noise(240)}/{''.join(chance.choices(wide, k=250))}.md",
    ]
    items = [
        Indexed(
            collection=Collection.SESSIONS,
            document=replace(session, path=f"{session.path}{i}.md", project=project),
        )
        for i, project in enumerate(projects)
    ]
    assert await stored(cache, items) == items


async def test_bodies_of_any_size_are_written_in_statements_of_bounded_size(cache: Cache) -> None:
    bodies = ["я" * 700_000, *("x" * 1_000 for _ in range(1_200)), "🔥" * 400_000]
    items = [
        Indexed(
            collection=Collection.SESSIONS,
            document=Session(
                path=f"{i:04}.md", revision=blob_oid(b.encode()), bytes=len(b), title="T"
            ),
            hot=True,
            markdown=b,
        )
        for i, b in enumerate(bodies)
    ]
    before = cache.database.statements
    assert await stored(cache, items) == items
    # 2.3 million characters in three statements, and thirteen beside them.
    assert cache.database.statements - before == 3 + 13


async def test_an_unreadable_document_keeps_its_reason(cache: Cache) -> None:
    item = Indexed(
        collection=Collection.SESSIONS,
        document=Session(path="a.md", revision=blob_oid(b"\xff"), bytes=1, title="a"),
        unreadable="The file is not UTF-8: byte 0 cannot be decoded.",
    )
    assert await stored(cache, [item]) == [item]
    async with cache.snapshot() as snapshot:
        totals = await snapshot.totals()
    assert (totals.documents, totals.hot, totals.unreadable) == (1, 0, 1)


async def test_retention_drops_exactly_the_bodies_that_are_not_hot(cache: Cache) -> None:
    """-1, 0 and 1 are a second before, at and after the edge of what counts as old."""
    second = timedelta(seconds=1)
    upserts, kept_until, stay = [], {}, set()
    for occurred, changed, kept in product((None, -1, 0, 1), (-1, 0, 1), (None, -1, 1)):
        session = Session(
            path=f"{occurred} {changed} {kept}.md",
            revision=blob_oid(b"x"),
            bytes=1,
            title="s",
            occurred_at=None if occurred is None else CUTOFF + occurred * second,
        )
        changed_at = CUTOFF + changed * second
        item = Indexed(collection=Collection.SESSIONS, document=session, hot=True, markdown="x")
        upserts.append(Upsert(item=item, changed_at=changed_at))
        if kept is not None:
            kept_until[session.path] = SEEN + kept * second
        if is_hot(session, changed_at, CUTOFF) or kept == 1:
            stay.add(session.path)
    assert await cache.apply(replace(rebuild([]), upserts=upserts), expected=None)
    for path, until in kept_until.items():
        await cache.keep({path: (blob_oid(b"x"), "x")}, until=until)

    dropped = await cache.forget_cold(cutoff=CUTOFF, now=SEEN)

    assert dropped == len(upserts) - len(stay)
    async with cache.snapshot() as snapshot:
        found = await snapshot.everything(Collection.SESSIONS)
    assert {item.document.path for item in found if item.hot} == stay
    assert len(found) == len(upserts) == 36


async def test_only_sessions_ever_go_cold(cache: Cache) -> None:
    common: dict[str, Any] = {"revision": blob_oid(b"x"), "bytes": 1, "title": "T"}
    documents: dict[Collection, AnyDocument] = {
        Collection.PROJECTS: Project(path="project.md", name="T", **common),
        Collection.PRIORITIES: Priority(path="priority.md", **common),
    }
    items = [
        Indexed(collection=collection, document=document, hot=True, markdown="x")
        for collection, document in documents.items()
    ]
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    assert await cache.apply(rebuild(items, long_ago), expected=None)
    assert await cache.forget_cold(cutoff=CUTOFF, now=SEEN) == 0


async def test_a_body_is_kept_only_for_the_revision_it_was_read_for(cache: Cache) -> None:
    session = Session(path="s.md", revision=blob_oid(b"new"), bytes=3, title="s")
    item = Indexed(collection=Collection.SESSIONS, document=session)
    assert await stored(cache, [item]) == [item]

    bodies = {
        "s.md": (blob_oid(b"old"), "old"),
        "gone.md": (blob_oid(b"new"), "new"),
    }
    await cache.keep(bodies, until=SEEN)
    async with cache.snapshot() as snapshot:
        assert await snapshot.documents(["s.md", "gone.md"], WITH_BODIES) == {"s.md": item}

    await cache.keep({"s.md": (session.revision, "new")}, until=SEEN)
    async with cache.snapshot() as snapshot:
        found = await snapshot.documents(["s.md"], WITH_BODIES)
        assert found == {"s.md": replace(item, hot=True, markdown="new")}
        assert await snapshot.bodies([session.revision]) == {session.revision: "new"}
