"""Thirty days stay hot; what is older is an index entry, and a body again when asked for."""

import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import Update, update
from sqlmodel import col

from api.cache.tables import SessionRow
from api.sync.health import check_health
from api.sync.log import logged
from api.sync.retention import forget_cold
from api.sync.walk import Listed
from tests.sync.conftest import Side
from tests.sync.oracle import commit, documents_at, rows_of

DAY = 86_400
THIRTY = timedelta(days=30)
TODAY = datetime.now(UTC).date()
BODIES: dict[str | bytes, bytes] = {
    "autosaves/old.md": b"# Old\n",
    "autosaves/changed.md": b"# Changed\n",
    "autosaves/recent.md": f"---\ndate: {TODAY}\n---\n# Told of lately\n".encode(),
    "autosaves/projects/old.md": b"# A project\n",
    "autosaves/priorities/old.md": b"# A priority\n",
}


def with_a_past(side: Side) -> None:
    """A history of two commits: a year old, and of today."""
    side.retention = THIRTY
    now = int(time.time())
    commit(side.repository, BODIES, parent=None, at=now - 365 * DAY)
    commit(side.repository, {"autosaves/changed.md": b"# Changed today\n"}, at=now)


async def hot(side: Side) -> set[str]:
    return {path for path, item in (await rows_of(side.cache)).items() if item.hot}


EXPECTED_HOT = {
    "autosaves/changed.md",
    "autosaves/recent.md",
    "autosaves/projects/old.md",
    "autosaves/priorities/old.md",
}


async def test_a_first_build_knows_what_is_old_without_asking_for_every_path(side: Side) -> None:
    with_a_past(side)
    await side.build()
    assert await hot(side) == EXPECTED_HOT
    # Three levels of directories now, and the two that were others a month ago.
    assert side.asked == ["Head", *["Trees"] * 3, "CommitBefore", *["Trees"] * 2, "Blobs"]


async def test_a_cold_document_is_listed_with_all_that_it_says(side: Side) -> None:
    with_a_past(side)
    await side.build()
    old = (await rows_of(side.cache))["autosaves/old.md"]
    told = documents_at(side.repository, "main", side.layout)["autosaves/old.md"]
    assert old.document == told.document
    assert (old.markdown, old.hot) == (None, False)


async def test_retention_and_build_agree_on_what_is_old(side: Side) -> None:
    with_a_past(side)
    await side.build()
    assert await forget_cold(side.reconciler) == 0
    assert await hot(side) == EXPECTED_HOT


async def test_a_body_leaves_when_its_time_has_come_and_once(side: Side) -> None:
    with_a_past(side)
    side.retention = timedelta(days=1_000)
    await side.build()
    assert "autosaves/old.md" in await hot(side)

    side.retention = THIRTY
    # The build did not know when it was changed: before the edge, or with the newest commit.
    async with side.cache.database.transaction() as connection:
        await connection.run(_age("autosaves/old.md"))
    assert await logged(side.reconciler, "retention", lambda: forget_cold(side.reconciler)) == 1
    assert await hot(side) == EXPECTED_HOT
    assert await forget_cold(side.reconciler) == 0


def _age(path: str) -> Update:
    return (
        update(SessionRow)
        .where(col(SessionRow.path) == path)
        .values(changed_at=datetime.now(UTC) - timedelta(days=365))
    )


async def test_an_old_body_is_read_again_by_its_oid_and_kept_for_a_while(side: Side) -> None:
    with_a_past(side)
    await side.build()
    old = (await rows_of(side.cache))["autosaves/old.md"].document
    file = Listed(old.path, old.revision, old.bytes)
    side.github.requests.clear()
    read = await side.reconciler.content.read([file], side.reconciler.cached_bodies)
    assert read[old.path].markdown == "# Old\n"
    assert side.asked == ["Blobs"]

    kept_until = datetime.now(UTC) + timedelta(days=1)
    await side.cache.keep({old.path: (old.revision, "# Old\n")}, until=kept_until)
    assert await forget_cold(side.reconciler) == 0
    side.github.requests.clear()
    await side.reconciler.content.read([file], side.reconciler.cached_bodies)
    assert side.asked == []

    later = kept_until + timedelta(seconds=1)
    assert await side.cache.forget_cold(cutoff=later - THIRTY, now=later) == 1


async def test_an_old_document_that_is_edited_is_hot_again(side: Side) -> None:
    with_a_past(side)
    await side.build()
    commit(side.repository, {"autosaves/old.md": b"# Old, and edited\n"})
    await side.sync()
    assert await hot(side) == {*EXPECTED_HOT, "autosaves/old.md"}


async def test_a_body_in_the_cache_is_believed_only_if_it_hashes_to_its_oid(side: Side) -> None:
    await side.build()
    rows = await rows_of(side.cache)
    async with side.cache.database.transaction() as connection:
        await connection.run(update(SessionRow).values(markdown="forged"))
    files = [
        Listed(path, item.document.revision, item.document.bytes) for path, item in rows.items()
    ]
    reconciler = side.reconciler
    read = await reconciler.content.read(files, reconciler.cached_bodies)
    assert {path: item.markdown for path, item in read.items()} == {
        path: item.markdown for path, item in rows.items()
    }


async def test_what_retention_let_go_and_what_was_read_again_is_no_drift(side: Side) -> None:
    await side.build()
    later = datetime.now(UTC) + timedelta(days=36_500)
    assert await side.cache.forget_cold(cutoff=later, now=later) == 6
    assert (await check_health(side.reconciler)).drift == {}
    path, row = next(iter((await rows_of(side.cache)).items()))
    body = documents_at(side.repository, "main", side.layout)[path].markdown or ""
    until = datetime.now(UTC) + timedelta(days=1)
    await side.cache.keep({path: (row.document.revision, body)}, until=until)
    report = await check_health(side.reconciler)
    assert (report.drift, report.bodies) == ({}, 5)
