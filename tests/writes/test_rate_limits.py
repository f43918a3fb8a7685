"""GitHub's limits: groups grow instead of failing; who has to wait too long is told how long."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.github import Fault, GitHub, Limits
from tests.system import System, running
from tests.writes.asking import ROOM, at_master, attempt, cached_head, subjects, write

READ = "query($id: ID!) { project(id: $id) { status provenance { source stale fallback } } }"


@pytest.fixture
async def strict(repository: Path, database_url: str) -> AsyncIterator[System]:
    """GitHub with the limits that it has: 80 commits a minute, 500 an hour."""
    async with GitHub(repository, limits=Limits()) as github, running(github, database_url) as one:
        await one.sync()
        yield one


async def test_more_writes_than_github_takes_commits_in_an_hour_are_saved_at_once(
    strict: System,
) -> None:
    before = len(subjects(strict))

    async def client(name: int) -> None:
        for number in range(15):
            written = await write(
                strict, "createSession", title=f"{name} {number}", markdown=f"{name} {number}"
            )
            assert written["cache"] == "UPDATED"

    await asyncio.gather(*(client(name) for name in range(40)))

    assert len(subjects(strict)) - before < 80
    answer = await strict.ask("{ sessions { totalCount } }")
    assert answer.data["sessions"]["totalCount"] == 6 + 600


async def test_who_commits_faster_than_once_a_second_is_slowed_down_and_not_refused(
    strict: System,
) -> None:
    for number in range(20):
        await write(strict, "updateProject", id=ROOM, rank=number)

    assert b"rank: 19" in at_master(strict, ROOM)


async def test_a_short_secondary_limit_is_waited_for(system: System) -> None:
    system.github.faults.add(
        Fault(kind="secondary_rate_limit", operation="mutation", retry_after=1)
    )

    written = await write(system, "updateProject", id=ROOM, status="x")

    assert written["commit"]["oid"] == system.github.head
    assert subjects(system).count(f"Update {ROOM}: status") == 1


@pytest.mark.parametrize("status", [403, 429, 200])
async def test_a_long_secondary_limit_is_told_and_not_tried_again_too_soon(
    system: System, status: int
) -> None:
    head = system.github.head
    system.github.faults.add(
        Fault(kind="secondary_rate_limit", operation="mutation", retry_after=60, status=status)
    )

    first = await attempt(system, "updateProject", id=ROOM, status="x")
    sent = system.requests
    second = await attempt(system, "updateProject", id=ROOM, status="y")

    for answer in (first, second):
        assert answer.code == "RATE_LIMITED"
        assert 50 < answer.errors[0]["extensions"]["retryAfter"] <= 60
        assert "Nothing was saved" in answer.errors[0]["message"]
    assert system.requests == sent
    assert (system.github.head, await cached_head(system)) == (head, head)
    read = await system.ask(READ, id=ROOM)
    assert read.data["project"]["provenance"]["source"] == "CACHE"


async def test_a_quota_that_is_used_up_is_seen_before_a_write_is_sent(system: System) -> None:
    system.github.faults.add(Fault(kind="rate_limit", operation="query"))
    refused = await system.ask("{ sessions(consistency: MASTER) { totalCount } }")
    assert refused.code == "RATE_LIMITED"
    sent = system.requests

    answer = await attempt(system, "updateProject", id=ROOM, status="x")

    assert answer.code == "RATE_LIMITED"
    assert answer.errors[0]["extensions"]["retryAfter"] > 60
    assert system.requests == sent
    read = await system.ask(READ, id=ROOM)
    assert read.data["project"]["status"] == "active"


async def test_who_waits_for_less_time_is_refused_sooner(github: GitHub, database_url: str) -> None:
    async with running(github, database_url, {"WRITE_TIMEOUT_SECONDS": "3"}) as system:
        await system.sync()
        github.faults.add(Fault(kind="secondary_rate_limit", operation="mutation", retry_after=30))

        answers = await asyncio.gather(
            *(attempt(system, "createSession", title=f"{n}", markdown="x") for n in range(10))
        )

    assert {answer.code for answer in answers} == {"RATE_LIMITED"}
    assert {answer.errors[0]["extensions"]["retryAfter"] for answer in answers} <= {29, 30}


async def test_a_head_that_moved_while_github_takes_no_more_commits_is_not_built_upon_at_once(
    system: System,
) -> None:
    moved = system.github.faults.add(Fault(kind="ref_moved"))
    slow = system.github.faults.add(Fault(kind="latency", operation="mutation", ms=300))
    writing = asyncio.create_task(attempt(system, "updateProject", id=ROOM, status="x"))
    await slow.wait_until_struck()
    system.parts.writer._committer._pace.block(asyncio.get_running_loop().time() + 60)

    answer = await writing

    assert moved.struck
    assert answer.code == "RATE_LIMITED"
    assert 50 < answer.errors[0]["extensions"]["retryAfter"] <= 60
    assert b"status: active" in at_master(system, ROOM)
