"""The health check finds every kind of drift, repairs it, and cries wolf at none."""

import asyncio
import time
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from api.cache.cache import Cache
from api.cache.changing import IndexChange
from api.cache.database import Database
from api.cache.snapshot import CachedHead
from api.documents import PARSER_VERSION, Collection
from api.master.errors import MasterError
from api.sync.drift import Drift, nines
from api.sync.health import CacheMoved, HealthReport, check_health
from api.sync.reconcile import Outcome
from sandbox.github import Fault
from tests.sync.conftest import Side
from tests.sync.oracle import EXECUTABLE, SUBMODULE, SYMLINK, commit, head_of, rows_of
from tests.system import System
from tests.writes.asking import commit_documents

DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
GARDEN = "autosaves/projects/kitchen-garden.md"

VALUES = {
    "drill": DRILL,
    "garden": GARDEN,
    "zeros": "0" * 40,
    "room": "autosaves/projects/reading-room.md",
    "seeds": "autosaves/2026/11/autosave_2026-11-12_seed-list.md",
    "sync": "autosaves/2026/11/autosave_2026-11-18_pervaya-sinhronizaciya.md",
    "why": "autosaves/2026/10/autosave_2026-10-20_why-markdown.md",
}
COPY = """
INSERT INTO sessions (path, directory, revision, bytes, title, title_folded, found, markdown, hot,
                      changed_at, parser, seal, occurred_key, tags)
SELECT path || '', directory, revision, bytes, title, title_folded, found, markdown, hot,
       changed_at, parser, seal, changed_at, '{}'
FROM projects WHERE path = :garden
"""
DAMAGE = {
    "a row lost": ("DELETE FROM sessions WHERE path = :drill", {DRILL: Drift.MISSING}),
    "a row too many": (
        COPY.replace("path ||", "'autosaves/x.md' ||"),
        {"autosaves/x.md": Drift.EXTRA},
    ),
    "a row in two tables": (COPY, {GARDEN: Drift.EXTRA}),
    "a row in a directory that nobody knows": (
        COPY.replace("path ||", "'autosaves/nowhere/x.md' ||"),
        {"autosaves/nowhere/x.md": Drift.EXTRA},
    ),
    "a row in the wrong table": (
        "WITH gone AS (DELETE FROM projects WHERE path = :garden RETURNING *)"  # noqa: S608
        + COPY.replace("FROM projects WHERE path = :garden", "FROM gone"),
        {GARDEN: Drift.EXTRA},
    ),
    "a row outside of every collection": (
        "UPDATE sessions SET path = 'elsewhere.md' WHERE path = :drill",
        {DRILL: Drift.MISSING, "elsewhere.md": Drift.EXTRA},
    ),
    "another revision": (
        "UPDATE sessions SET revision = :zeros WHERE path = :drill",
        {DRILL: Drift.WRONG_REVISION},
    ),
    "a body with one character changed": (
        "UPDATE sessions SET markdown = 'X' || substr(markdown, 2) WHERE path = :drill",
        {DRILL: Drift.CORRUPT_BODY},
    ),
    "an empty body": (
        "UPDATE sessions SET markdown = '' WHERE path = :drill",
        {DRILL: Drift.CORRUPT_BODY},
    ),
    "another title": (
        "UPDATE sessions SET title = 'Other' WHERE path = :drill",
        {DRILL: Drift.WRONG_METADATA},
    ),
    "other metadata": (
        """UPDATE projects SET found = '{"a": 1}' WHERE path = :garden""",
        {GARDEN: Drift.WRONG_METADATA},
    ),
    "another size": (
        "UPDATE sessions SET bytes = 1 WHERE path = :drill",
        {DRILL: Drift.WRONG_METADATA},
    ),
    "a reason without cause": (
        "UPDATE sessions SET unreadable = 'why' WHERE path = :drill",
        {DRILL: Drift.WRONG_METADATA},
    ),
    "another mode": (
        "UPDATE sessions SET mode = 33261 WHERE path = :drill",
        {DRILL: Drift.WRONG_METADATA},
    ),
    "a key that lists are ordered by": (
        "UPDATE sessions SET occurred_key = now() WHERE path = :drill",
        {DRILL: Drift.WRONG_METADATA},
    ),
    "a title that is searched in": (
        "UPDATE projects SET title_folded = 'other' WHERE path = :garden",
        {GARDEN: Drift.WRONG_METADATA},
    ),
    "a directory that changes are looked for in": (
        "UPDATE sessions SET directory = 'autosaves' WHERE path = :drill",
        {DRILL: Drift.WRONG_METADATA},
    ),
    "the title of a cold document": (
        "UPDATE sessions SET markdown = NULL, hot = false, title = 'Other' WHERE path = :drill",
        {DRILL: Drift.WRONG_METADATA},
    ),
    "a body lost": (
        "UPDATE sessions SET markdown = NULL WHERE path = :drill",
        {DRILL: Drift.MISSING_BODY},
    ),
    "a body that nobody wanted": (
        "UPDATE sessions SET hot = false WHERE path = :drill",
        {DRILL: Drift.UNEXPECTED_BODY},
    ),
    "a seal": ("UPDATE sessions SET seal = '' WHERE path = :drill", {DRILL: Drift.WRONG_METADATA}),
}


async def checked(side: Side) -> HealthReport:
    side.github.requests.clear()
    return await check_health(side.reconciler)


async def damage(side: Side, statement: str) -> None:
    wanted = text(statement)
    values = {name: VALUES[name] for name in wanted.compile().params}
    async with side.cache.database.transaction() as connection:
        assert await connection.run(wanted, [values]) != 0


async def test_a_clean_cache_is_proven_in_a_handful_of_requests(side: Side) -> None:
    await side.build()
    report = await checked(side)
    assert (report.documents, report.drift, report.repaired) == (10, {}, 0)
    assert report.consistency == 1
    assert report.commit == head_of(side.repository)
    assert side.asked == ["Head"]
    assert (report.requests, report.bodies) == (1, 10)
    async with side.cache.snapshot() as snapshot:
        row = await snapshot.last_health_check()
    assert row is not None
    assert (row.commit, row.documents, row.drifted, row.consistency) == (report.commit, 10, 0, 1)


async def test_what_is_odd_but_true_is_no_drift(side: Side) -> None:
    """Numbers, dates and files that do not look the same in every store."""
    commit(
        side.repository,
        {
            "autosaves/numbers.md": b"---\na: 1e23\nb: 1e400\nc: -0.0\nd: 1.0\ne: true\n---\n",
            "autosaves/first.md": b"---\ndate: 0001-01-01\n---\n",
            "autosaves/last.md": b"---\ndate: 9999-12-31T23:59:59.999999Z\n---\n",
            "autosaves/priorities/due.md": b"---\ndue: 9999-12-31\nrank: -3\n---\n",
            "autosaves/binary.md": b"\0\xff",
            "autosaves/empty.md": b"",
            "autosaves/bom.md": b"\xef\xbb\xbf# T\r\n",
        },
    )
    await side.build()
    for _ in range(2):
        assert (await checked(side)).drift == {}
    await side.check()


async def test_cold_bodies_are_no_drift(side: Side) -> None:
    await side.build()
    await damage(side, "UPDATE sessions SET markdown = NULL, hot = false")
    rows = await rows_of(side.cache)
    assert (await checked(side)).drift == {}
    assert await rows_of(side.cache) == rows


@pytest.mark.parametrize("kind", DAMAGE)
async def test_drift_is_found_named_and_repaired(side: Side, kind: str) -> None:
    await side.build()
    statement, drift = DAMAGE[kind]
    await damage(side, statement)

    report = await checked(side)

    assert report.drift == drift
    assert report.repaired == len(drift)
    assert report.consistency == 1 - len(drift) / 10
    await side.check()
    assert (await checked(side)).drift == {}


async def test_a_cache_in_ruins_is_repaired_whole(side: Side) -> None:
    await side.build()
    await damage(side, "UPDATE sessions SET revision = repeat('0', 40)")
    await damage(side, "DELETE FROM projects")
    await damage(side, "UPDATE priorities SET title = ''")
    report = await checked(side)
    assert (len(report.drift), report.consistency) == (10, 0)
    await side.check()


async def test_directories_are_put_right_too(side: Side) -> None:
    """A wrong one would hide a change, when the master's tree comes to be that one."""
    await side.build()
    await damage(side, "UPDATE directories SET tree = :zeros WHERE path = 'autosaves'")
    await damage(side, "DELETE FROM directories WHERE path = 'autosaves/2026'")
    await damage(side, "INSERT INTO directories VALUES ('autosaves/x', :zeros)")
    report = await checked(side)
    # 'autosaves/2026' is not there, nor is what lies below it known to be where it is.
    assert (report.drift, report.wrong_trees, report.documents) == ({}, 3, 10)
    await side.check()
    report = await checked(side)
    assert (report.drift, report.wrong_trees) == ({}, 0)


async def test_documents_in_a_directory_that_was_forgotten_are_where_they_belong(
    side: Side,
) -> None:
    await side.build()
    await damage(side, "DELETE FROM directories WHERE path = 'autosaves/2026/11'")
    report = await checked(side)
    assert (report.drift, report.wrong_trees, report.consistency) == ({}, 1, 1)
    await side.check()


async def test_a_check_says_why_it_could_not_be_made(side: Side) -> None:
    await side.build()
    commit(side.repository, {DRILL: None})
    async with Database(side.url, timeout=2) as database:
        other = replace(side, cache=Cache(database, "ours"))
        async with side.cache.turn_to_reconcile():
            with pytest.raises(CacheMoved, match="Another sync is under way"):
                await checked(other)


async def test_a_cache_that_is_behind_is_brought_up_to_date_first(side: Side) -> None:
    """Being behind is no drift."""
    await side.build()
    commit(side.repository, {DRILL: b"# New\n"})
    report = await checked(side)
    assert (report.commit, report.drift) == (head_of(side.repository), {})
    await side.check()


async def test_an_empty_cache_is_built(side: Side) -> None:
    assert (await checked(side)).documents == 10
    await side.check()


async def test_a_repository_without_documents_is_consistent(side: Side) -> None:
    commit(side.repository, {}, parent=None)
    report = await checked(side)
    assert (report.documents, report.consistency) == (0, 1)


async def test_commits_that_come_meanwhile_are_no_drift(side: Side) -> None:
    """Both sides are compared at one commit, whatever the branch does."""
    await side.build()
    await damage(side, "UPDATE sessions SET revision = :zeros WHERE path = :drill")
    first = head_of(side.repository)
    pause = side.github.faults.add(Fault(kind="latency", ms=300, operation_name="Trees"))
    checking = asyncio.create_task(checked(side))
    await pause.wait_until_struck()
    commit(side.repository, {DRILL: None, "autosaves/new.md": b"# New\n"})
    report = await checking
    assert (report.commit, report.drift) == (first, {DRILL: Drift.WRONG_REVISION})
    await side.check(first)


async def test_when_the_cache_moves_meanwhile_the_check_begins_again(side: Side) -> None:
    await side.build()
    await damage(side, "UPDATE sessions SET title = 'Other' WHERE path = :drill")
    pause = side.github.faults.add(Fault(kind="latency", ms=500, operation_name="Trees"))
    checking = asyncio.create_task(checked(side))
    await pause.wait_until_struck()
    second = commit(side.repository, {DRILL: b"# New\n"})
    await side.reconciler.run()
    report = await checking
    assert (report.commit, report.drift) == (second, {})
    await side.check()


SEVEN = {
    Drift.MISSING: "DELETE FROM sessions WHERE path = :drill",
    Drift.EXTRA: COPY.replace("path ||", "'autosaves/x.md' ||"),
    Drift.WRONG_REVISION: "UPDATE sessions SET revision = :zeros WHERE path = :sync",
    Drift.CORRUPT_BODY: "UPDATE sessions SET markdown = markdown || ' ' WHERE path = :why",
    Drift.WRONG_METADATA: "UPDATE projects SET status = 'other' WHERE path = :garden",
    Drift.MISSING_BODY: "UPDATE projects SET markdown = NULL WHERE path = :room",
    Drift.UNEXPECTED_BODY: "UPDATE sessions SET hot = false WHERE path = :seeds",
}


async def test_seven_rows_damaged_in_seven_ways_are_seven_found_and_repaired(side: Side) -> None:
    await side.build()
    for statement in SEVEN.values():
        await damage(side, statement)

    report = await checked(side)

    assert sorted(report.drift.values()) == sorted(SEVEN)
    assert dict(report.kinds) == dict.fromkeys(map(str, SEVEN), 1)
    assert (report.documents, report.repaired, report.consistency) == (10, 7, 1 - 7 / 10)
    await side.check()
    assert (await checked(side)).drift == {}


UPDATE = "UPDATE sessions SET {} WHERE path = :drill"
HOSTILE = {
    "a revision that is no hash": "revision = 'broken'",
    "half a revision": "revision = 'abcd'",
    "a time that Python cannot hold": "changed_at = '20000-03-15 00:00:00+00'",
    "a time before all": "changed_at = '0044-03-15 00:00:00+00 BC'",
    "an infinite time": "occurred_at = 'infinity'",
    "a body kept for ever": "hot = false, kept_until = 'infinity'",
    "metadata of another form": "found = '[1]'",
    "no tag": "tags = ARRAY[NULL]::text[]",
    "tags in two dimensions": "tags = ARRAY[ARRAY['a']]::text[]",
    "no mode": "mode = 0",
    "a mode below zero": "mode = -5",
    "no path": "path = ''",
    "a path that leads up": "path = 'autosaves/../x.md'",
    "a path from the root": "path = '/autosaves/x.md'",
    "the path of a directory": "path = 'autosaves/'",
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_whatever_a_row_was_made_to_say_it_is_put_right(side: Side, kind: str) -> None:
    """One row must not keep all others from being proven."""
    await side.build()
    await damage(side, UPDATE.format(HOSTILE[kind]))
    assert (await checked(side)).drift != {}
    report = await checked(side)
    assert (report.drift, report.wrong_trees) == ({}, 0)
    await side.check()


async def test_a_directory_that_hangs_from_nothing_proves_nothing(side: Side) -> None:
    await side.build()
    commit(side.repository, {"autosaves/ghost/deep/x.md": b"# Ghost\n"})
    await side.build()
    rows = "CREATE TABLE ghost AS SELECT * FROM sessions WHERE path LIKE 'autosaves/ghost/%'"
    async with side.cache.database.transaction() as connection:
        await connection.run(text(rows))
    commit(side.repository, {"autosaves/ghost": None})
    await side.build()
    await damage(side, "INSERT INTO sessions SELECT * FROM ghost")
    await damage(side, "INSERT INTO directories VALUES ('autosaves/ghost/deep', :zeros)")
    report = await checked(side)
    assert report.drift == {"autosaves/ghost/deep/x.md": Drift.EXTRA}
    assert (report.documents, report.wrong_trees) == (10, 1)
    await side.check()


async def test_a_project_without_its_body_is_not_cold_but_damaged(side: Side) -> None:
    await side.build()
    await damage(side, "UPDATE projects SET hot = false, markdown = NULL WHERE path = :garden")
    assert (await checked(side)).drift == {GARDEN: Drift.MISSING_BODY}
    await side.check()


async def test_documents_where_there_should_be_none_are_not_consistent(side: Side) -> None:
    commit(side.repository, {}, parent=None)
    await side.build()
    await damage(
        side,
        """INSERT INTO sessions (path, directory, revision, bytes, title, title_folded, found, hot,
           changed_at, parser, seal, occurred_key, tags)
           VALUES ('x.md', '', :zeros, 0, '', '', '{}', false, now(), 1, '', now(), '{}')""",
    )
    report = await checked(side)
    assert (report.documents, report.consistency) == (0, 0)


async def test_a_cold_document_that_was_repaired_is_cold(side: Side) -> None:
    side.retention = timedelta(days=30)
    old = int(time.time()) - 365 * 86_400
    commit(side.repository, {"autosaves/old.md": b"# Old\n"}, parent=None, at=old)
    await side.build()
    await damage(side, "UPDATE sessions SET title = 'Other'")
    assert (await checked(side)).drift == {"autosaves/old.md": Drift.WRONG_METADATA}
    [row] = (await rows_of(side.cache)).values()
    assert (row.document.title, row.hot) == ("Old", False)


async def test_what_is_only_looked_at_is_left_as_it_is(side: Side) -> None:
    await side.build()
    await damage(side, "UPDATE sessions SET title = 'Other' WHERE path = :drill")
    rows = await rows_of(side.cache)
    report = await check_health(side.reconciler, repair=False)
    assert (report.drift, report.repaired) == ({DRILL: Drift.WRONG_METADATA}, 0)
    assert await rows_of(side.cache) == rows


async def test_only_directories_that_differ_are_asked_for(side: Side) -> None:
    await side.build()
    await damage(side, "DELETE FROM sessions WHERE path = :drill")
    await checked(side)
    # The way down to it, and its body; in the directories beside it nothing differs.
    assert side.asked == ["Head", *["Trees"] * 4, "Blobs"]


async def test_what_else_lies_in_a_directory_is_proven_too(side: Side) -> None:
    """Or the tree of the directory could not be computed from the index."""
    commit(
        side.repository,
        {
            "autosaves/LATEST.json": b"{}",
            "autosaves/link.md": (SYMLINK, b"a.md"),
            "autosaves/module": (SUBMODULE, b"1" * 40),
            b"autosaves/caf\xe9.md": b"x",
            b"autosaves/\xe9/a.md": b"x",
            "autosaves/run.md": (EXECUTABLE, b"# Run\n"),
            "autosaves/tools/x.sh": (EXECUTABLE, b"#!/bin/sh\n"),
            f"autosaves/{'/'.join(['д' * 100] * 6)}/a.md": b"x",
        },
    )
    await side.build()
    assert (await checked(side)).drift == {}
    assert side.asked == ["Head"]
    await damage(side, "UPDATE directories SET others = 'x' WHERE path = 'autosaves'")
    report = await checked(side)
    assert (report.drift, report.wrong_trees) == ({}, 1)
    assert (await checked(side)).drift == {}
    assert side.asked == ["Head"], "it was put right"


async def test_commits_of_our_own_keep_the_index_provable(system: System) -> None:
    """What is known of a directory but its documents outlives every kind of write."""
    commit(
        system.github.path,
        {"autosaves/x.json": b"{}", "autosaves/run.md": (EXECUTABLE, b"# Run\n")},
    )
    await system.sync()
    answer = await commit_documents(
        system,
        {"updateSession": {"id": "autosaves/run.md", "title": "Ran"}},
        {"delete": {"id": DRILL}},
        {"rename": {"id": GARDEN, "path": "autosaves/projects/below/g.md"}},
        {"createSession": {"title": "N", "markdown": "n", "path": "autosaves/n/n.md"}},
    )
    assert answer.data["commitDocuments"]["cache"] == "UPDATED"
    report = await check_health(system.parts.reconciler)
    assert (report.drift, report.requests) == ({}, 1)


# Parsers


async def test_a_newer_parser_reads_what_is_stored_without_asking_github(side: Side) -> None:
    await side.build()
    await damage(side, "UPDATE sessions SET markdown = NULL, hot = false WHERE path = :drill")
    changed = await times(side)
    newer = replace(side, cache=Cache(side.cache.database, "ours", parser=PARSER_VERSION + 1))

    report = await newer.sync()

    assert (report.outcome, report.changed, report.added) == (Outcome.APPLIED, 9, 0)
    assert side.asked == ["Head"]
    assert await times(side) == changed
    assert (await newer.sync()).outcome is Outcome.UNCHANGED
    assert (await side.sync()).outcome is Outcome.UNCHANGED, "the older one leaves it alone"
    async with newer.cache.snapshot() as snapshot:
        pages = [page async for page in snapshot.stored(Collection.SESSIONS)]
    assert {row.parser for page in pages for row in page} == {PARSER_VERSION, PARSER_VERSION + 1}


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("damaged", ["revision = repeat('0', 40)", "path = 'elsewhere.md'"])
async def test_a_newer_parser_leaves_damaged_rows_to_the_health_check(
    side: Side, damaged: str
) -> None:
    await side.build()
    await damage(side, UPDATE.format(damaged))
    newer = replace(side, cache=Cache(side.cache.database, "ours", parser=PARSER_VERSION + 1))
    assert (await newer.sync()).outcome is Outcome.APPLIED
    assert DRILL in (await check_health(newer.reconciler)).drift
    await newer.check()


async def test_what_an_older_version_writes_meanwhile_is_read_anew(side: Side) -> None:
    """While a deployment is under way, two versions write."""
    newer = replace(side, cache=Cache(side.cache.database, "ours", parser=PARSER_VERSION + 1))
    await newer.build()
    head = await side.master.head()
    item = (await rows_of(side.cache))[DRILL]
    change = IndexChange(
        head=CachedHead("1" * 40, head.seen_at),
        directories={},
        upserts=[side.reconciler.upsert(item, head.committed_at)],
    )
    assert await side.cache.apply(change, expected=head.commit)
    async with newer.cache.snapshot() as snapshot:
        assert snapshot.head is not None
        assert snapshot.head.is_outparsed


async def test_what_a_newer_parser_read_is_not_judged_by_an_older_one(side: Side) -> None:
    newer = replace(side, cache=Cache(side.cache.database, "ours", parser=PARSER_VERSION + 1))
    await newer.build()
    head, item = await side.master.head(), (await rows_of(side.cache))[DRILL]
    title = replace(item.document, title="As only the newer one reads it")
    upsert = side.reconciler.upsert(replace(item, document=title), head.committed_at)
    change = IndexChange(
        head=CachedHead(head.commit, head.seen_at), directories={}, upserts=[upsert]
    )
    assert await newer.cache.apply(change, expected=head.commit)
    assert (await check_health(side.reconciler)).drift == {}


async def test_cold_documents_are_read_anew_by_the_next_check(side: Side) -> None:
    """If the older parser read them otherwise, that is drift."""
    await side.build()
    await damage(side, "UPDATE sessions SET markdown = NULL, hot = false")
    side.retention = timedelta(0)
    newer = replace(side, cache=Cache(side.cache.database, "ours", parser=PARSER_VERSION + 1))
    assert (await newer.sync()).changed == 4
    reader = newer.reconciler
    report = await check_health(reader)
    assert (report.drift, report.documents) == ({}, 10)
    async with newer.cache.snapshot() as snapshot:
        pages = [page async for page in snapshot.stored(Collection.SESSIONS)]
    assert {row.parser for page in pages for row in page} == {PARSER_VERSION + 1}
    side.github.requests.clear()
    await check_health(newer.reconciler)
    assert side.asked == ["Head"]


@pytest.mark.parametrize("step", [1, 2, 200])
async def test_what_an_older_parser_read_otherwise_of_cold_documents_is_drift(
    side: Side, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Of each of them, however many are read at once."""
    monkeypatch.setattr("api.sync.content._DOCUMENTS_A_STEP", step)
    await side.build()
    side.retention = timedelta(0)
    head, before = await side.master.head(), await rows_of(side.cache)
    sessions = [i for i in before.values() if i.collection is Collection.SESSIONS and i.hot]
    assert len(sessions) > 2 * 2
    otherwise = [
        replace(item, markdown=None, document=replace(item.document, title="As it was read once"))
        for item in (sessions[0], sessions[2], sessions[-1])
    ]
    rest = [replace(i, markdown=None) for i in (sessions[1], *sessions[3:-1])]
    change = IndexChange(
        head=CachedHead(head.commit, head.seen_at),
        directories={},
        upserts=[side.reconciler.upsert(i, head.committed_at) for i in (*otherwise, *rest)],
    )
    assert await side.cache.apply(change, expected=head.commit)
    newer = replace(side, cache=Cache(side.cache.database, "ours", parser=PARSER_VERSION + 1))
    await newer.sync()

    report = await check_health(newer.reconciler)

    assert report.drift == {item.document.path: Drift.WRONG_METADATA for item in otherwise}
    after = await rows_of(newer.cache)
    assert {path: item.document for path, item in after.items()} == {
        path: item.document for path, item in before.items()
    }


async def times(side: Side) -> dict[str, datetime]:
    """When each session changed, as the cache knows it."""
    async with side.cache.snapshot() as snapshot:
        return {
            row.item.document.path: row.changed_at
            async for page in snapshot.stored(Collection.SESSIONS)
            for row in page
        }


async def test_without_a_common_commit_nothing_is_judged(side: Side) -> None:
    old = head_of(side.repository)
    await side.build()
    new = commit(side.repository, {DRILL: None})
    await side.build()
    side.github.faults.add(Fault(kind="lagging_head", head=old, operation_name="Head", count=None))
    with pytest.raises(CacheMoved):
        await checked(side)
    await side.check(new)


@pytest.mark.parametrize("operation", ["Head", "Trees", "Blobs"])
async def test_without_the_master_nothing_is_repaired(side: Side, operation: str) -> None:
    await side.build()
    await damage(side, "UPDATE sessions SET revision = :zeros WHERE path = :drill")
    rows = await rows_of(side.cache)
    side.github.faults.add(Fault(kind="bad_gateway", operation_name=operation, count=None))
    with pytest.raises(MasterError):
        await checked(side)
    assert await rows_of(side.cache) == rows


async def test_a_repair_of_another_commit_does_nothing(side: Side) -> None:
    await side.build()
    head = await side.master.head()
    rows = await rows_of(side.cache)
    assert not await side.reconciler.repair(replace(head, commit="0" * 40), {DRILL: None})
    assert await rows_of(side.cache) == rows


# The figure


@pytest.mark.parametrize(
    ("documents", "drifted", "told"),
    [(0, 0, 0), (2, 0, 0), (3_000, 0, 3), (3_000, 1, 3), (30_000, 30, 3), (5, 5, 0)],
)
def test_no_more_nines_are_claimed_than_were_shown(documents: int, drifted: int, told: int) -> None:
    assert nines(documents, drifted) == pytest.approx(told)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_drift_is_never_more_nines(documents: int, drifted: int) -> None:
    drifted = min(drifted, documents)
    assert 0 <= nines(documents, drifted + 1) <= nines(documents, drifted) <= 6
