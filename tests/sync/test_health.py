"""The health check finds every kind of drift, repairs it, and cries wolf at none."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text

from api.master.errors import MasterError
from api.sync.drift import Drift
from api.sync.health import CacheMoved, HealthReport, check_health
from sandbox.github import Fault
from tests.sync.conftest import Side
from tests.sync.oracle import commit, head_of, rows_of

DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
GARDEN = "autosaves/projects/kitchen-garden.md"

VALUES = {"drill": DRILL, "garden": GARDEN, "zeros": "0" * 40}
COPY = """
INSERT INTO sessions (path, directory, revision, bytes, title, title_folded, found, markdown,
                      changed_at, occurred_key, tags)
SELECT path || '', directory, revision, bytes, title, title_folded, found, markdown, changed_at,
       changed_at, '{}'
FROM projects WHERE path = :garden
"""
DAMAGE = {
    "a row lost": ("DELETE FROM sessions WHERE path = :drill", {DRILL: Drift.MISSING}),
    "a row too many": (
        COPY.replace("path ||", "'autosaves/x.md' ||"),
        {"autosaves/x.md": Drift.EXTRA},
    ),
    "a row in two tables": (COPY, {GARDEN: Drift.EXTRA}),
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
}


async def checked(side: Side) -> HealthReport:
    side.github.requests.clear()
    return await check_health(side.reconciler)


async def damage(side: Side, statement: str) -> None:
    async with side.cache.database.transaction() as connection:
        assert await connection.run(text(statement), [VALUES]) != 0


async def test_a_clean_cache_is_proven_in_a_handful_of_requests(side: Side) -> None:
    await side.build()
    report = await checked(side)
    assert (report.documents, report.drift, report.repaired) == (10, {}, 0)
    assert report.consistency == 1
    assert report.commit == head_of(side.repository)
    assert side.asked == ["Head", *["Trees"] * 4]
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
    await damage(side, "UPDATE sessions SET markdown = NULL")
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
    assert (await checked(side)).drift == {}
    await side.check()


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
    first = head_of(side.repository)
    pause = side.github.faults.add(Fault(kind="latency", ms=300, operation_name="Trees"))
    checking = asyncio.create_task(checked(side))
    await pause.wait_until_struck()
    commit(side.repository, {DRILL: None, "autosaves/new.md": b"# New\n"})
    report = await checking
    assert (report.commit, report.drift) == (first, {})
    await side.check(first)


async def test_when_the_cache_moves_meanwhile_the_check_begins_again(side: Side) -> None:
    await side.build()
    pause = side.github.faults.add(Fault(kind="latency", ms=500, operation_name="Trees"))
    checking = asyncio.create_task(checked(side))
    await pause.wait_until_struck()
    second = commit(side.repository, {DRILL: b"# New\n"})
    await side.reconciler.run()
    report = await checking
    assert (report.commit, report.drift) == (second, {})


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
