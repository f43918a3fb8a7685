"""After the commit comes the cache. When that fails, nobody is served the old as if it were new."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from sandbox.github import Fault, GitHub
from sandbox.github.faults import Kind
from sandbox.postgres import Postgres
from tests.clone import Clone
from tests.freezing import frozen
from tests.sync.oracle import assert_equals_master, head_of
from tests.system import System, impatient, running
from tests.writes.asking import (
    DRILL,
    ROOM,
    SEEDS,
    at_master,
    cached_head,
    commit_documents,
    write,
)

READ = """
query Read($id: ID!, $atLeast: GitObjectID) {
  project(id: $id, atLeast: $atLeast) { status provenance { source commit stale fallback } }
}
"""


@pytest.fixture
async def system(github: GitHub, postgres: Postgres) -> AsyncIterator[System]:
    async with running(github, postgres.url) as gateway:
        await gateway.sync()
        yield gateway


@pytest.fixture
async def other(github: GitHub, postgres: Postgres, system: System) -> AsyncIterator[System]:
    """A second process on the same cache, which `system` filled."""
    del system
    async with running(github, postgres.url) as gateway:
        yield gateway


async def project(system: System, **variables: object) -> dict[str, Any]:
    answer = await system.ask(READ, id=ROOM, **variables)
    assert answer.errors == []
    read: dict[str, Any] = answer.data["project"]
    return read


async def until_cached(system: System, status: str) -> None:
    """Until a plain read comes from the cache, with what was written."""
    for _ in range(1_000):
        read = await project(system)
        assert (read["status"], read["provenance"]["stale"]) == (status, False)
        if read["provenance"]["source"] == "CACHE":
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the cache was not repaired")


async def test_without_postgresql_every_mutation_is_saved_and_deferred(
    system: System, postgres: Postgres
) -> None:
    await postgres.kill()

    updated = await write(system, "updateProject", id=ROOM, status="resting")
    deleted = await write(system, "deletePriority", id=SEEDS)
    committed = await commit_documents(system, {"rename": {"id": DRILL, "path": "autosaves/d.md"}})

    assert updated["cache"] == deleted["cache"] == "DEFERRED"
    assert committed.data["commitDocuments"]["cache"] == "DEFERRED"
    assert updated["project"]["status"] == "resting"
    assert b"status: resting" in at_master(system, ROOM)
    read = await project(system)
    assert (read["status"], read["provenance"]["fallback"]) == ("resting", "CACHE_UNAVAILABLE")


async def test_a_deferred_write_is_repaired_when_postgresql_is_back(
    system: System, postgres: Postgres, github: GitHub
) -> None:
    await postgres.kill()
    written = await write(system, "updateProject", id=ROOM, status="resting")

    await postgres.start()

    assert written["cache"] == "DEFERRED"
    await until_cached(system, "resting")
    await assert_equals_master(system.parts.gateway.cache, github.path, system.parts.gateway.layout)


async def test_a_deferred_write_is_repaired_although_nobody_reads(
    system: System, other: System, postgres: Postgres
) -> None:
    await postgres.kill()
    await write(system, "updateProject", id=ROOM, status="resting")
    await postgres.start()

    for _ in range(1_000):
        if not other.parts.gateway.cache.database.is_down:
            async with other.parts.gateway.cache.snapshot() as snapshot:
                if snapshot.head and snapshot.head.commit == system.github.head:
                    break
        await asyncio.sleep(0.01)

    assert await cached_head(other) == system.github.head
    assert (await project(other))["status"] == "resting"


async def test_a_deferred_write_is_read_at_once_with_at_least_by_everybody(
    system: System, other: System, postgres: Postgres
) -> None:
    with impatient(system), frozen(postgres):
        written = await write(system, "updateProject", id=ROOM, status="resting")

    assert written["cache"] == "DEFERRED"
    for one in (other, system):
        read = await project(one, atLeast=written["commit"]["oid"])
        assert (read["status"], read["provenance"]["stale"]) == ("resting", False)


async def test_a_frozen_postgresql_costs_a_write_its_deadline_and_no_more(
    system: System, postgres: Postgres
) -> None:
    with impatient(system), frozen(postgres):
        first = await write(system, "updateProject", id=ROOM, status="one")
        second = await write(system, "updateProject", id=ROOM, rank=9)

    assert first["cache"] == second["cache"] == "DEFERRED"
    assert (second["project"]["status"], second["project"]["rank"]) == ("one", 9)
    await until_cached(system, "one")


@pytest.mark.usefixtures("system")
async def test_rows_that_somebody_locks_defer_the_cache_and_not_the_write(
    github: GitHub, postgres: Postgres
) -> None:
    connection = await asyncpg.connect(postgres.url)
    try:
        async with running(github, postgres.url, {"DATABASE_TIMEOUT_SECONDS": "1"}) as hasty:
            async with connection.transaction():
                await connection.execute("LOCK TABLE projects IN ACCESS EXCLUSIVE MODE")
                written = await write(hasty, "createProject", name="N", markdown="x")

            assert written["cache"] == "DEFERRED"
            await until_cached(hasty, "active")
    finally:
        await connection.close()


async def test_after_a_deferred_write_no_process_serves_the_old_as_fresh(
    system: System, other: System, clone: Clone, github: GitHub
) -> None:
    """The cache was behind when the write landed, so that it could not take it over."""
    clone.push({"autosaves/pushed.md": "# Pushed\n"})
    github.faults.add(Fault(kind="bad_gateway", operation_name="Trees", count=2))  # fails a sync

    written = await write(system, "updateProject", id=ROOM, status="resting")

    assert written["cache"] == "DEFERRED"
    for one in (system, other):
        for _ in range(500):
            if one.parts.gateway.is_outdated(await _head(one)):
                break
            await asyncio.sleep(0.01)
        assert (await project(one))["status"] == "resting"
    await until_cached(system, "resting")
    await until_cached(other, "resting")


async def test_after_an_outage_no_process_trusts_what_the_cache_said_before(
    other: System, postgres: Postgres, github: GitHub
) -> None:
    """The one that wrote may be gone, and with it who knew that the cache is behind."""
    assert (await project(other))["status"] == "active"
    async with running(github, "postgresql://127.0.0.1:1/nowhere") as third:
        await postgres.kill()
        assert (await project(other))["provenance"]["fallback"] == "CACHE_UNAVAILABLE"
        written = await write(third, "updateProject", id=ROOM, status="resting")
        assert written["cache"] == "DEFERRED"
    await postgres.start()

    await until_cached(other, "resting")


async def heard(job: str) -> bool:
    """A worker that has been rung, and will come in its time."""
    del job
    return True


async def test_a_lagging_replica_does_not_make_the_old_fresh_again(
    system: System,
    other: System,
    clone: Clone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    github = system.github
    clone.push({"autosaves/pushed.md": "# Pushed\n"})
    await system.sync()
    old = head_of(github.path)
    clone.push({"autosaves/again.md": "# Again\n"})
    monkeypatch.setattr(system.parts.gateway, "_ring", heard)
    written = await write(system, "updateProject", id=ROOM, status="resting")
    assert written["cache"] == "DEFERRED"
    lagging = github.faults.add(Fault(kind="lagging_head", head=old, count=3))

    report = await other.parts.reconciler.run()  # as that worker, which knows of nothing

    assert report.outcome == "lagging"
    assert lagging.struck
    github.faults.clear()
    for one in (system, other):
        assert (await project(one))["status"] == "resting"


@pytest.mark.parametrize("fault", [None, "bad_gateway", "partial"])
async def test_what_others_do_to_the_directories_of_a_write_is_noticed(
    system: System, clone: Clone, github: GitHub, fault: Kind | None
) -> None:
    """Of a commit whose answer was lost the new trees are not known."""
    if fault:
        github.faults.add(Fault(kind=fault, when="after", operation="mutation"))
    path = "autosaves/far/away/x.md"
    written = await write(system, "createSession", title="T", markdown="x", path=path)
    assert written["cache"] == "UPDATED"

    await asyncio.to_thread(clone.push, {path: None})
    await system.sync()

    await assert_equals_master(system.parts.gateway.cache, github.path, system.parts.gateway.layout)


async def test_directories_that_a_write_empties_are_gone(system: System, github: GitHub) -> None:
    path = "autosaves/far/away/x.md"
    await write(system, "createSession", title="T", markdown="x", path=path)

    await write(system, "deleteSession", id=path)

    await assert_equals_master(system.parts.gateway.cache, github.path, system.parts.gateway.layout)


async def test_when_github_is_gone_after_a_deferred_write_the_cache_is_called_stale(
    system: System, postgres: Postgres, github: GitHub
) -> None:
    with impatient(system), frozen(postgres):
        await write(system, "updateProject", id=ROOM, status="resting")
    github.faults.add(Fault(kind="dropped", count=None))
    while system.parts.gateway.cache.database.is_down:  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(0.01)

    read = await project(system)

    assert (read["status"], read["provenance"]["stale"]) == ("active", True)


async def _head(system: System) -> Any:
    async with system.parts.gateway.cache.snapshot() as snapshot:
        return snapshot.head
