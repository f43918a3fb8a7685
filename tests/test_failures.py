"""The failure table: which store may fail, and what the answers say then."""

from collections.abc import AsyncIterator

import pytest

from sandbox.github import GitHub
from sandbox.postgres import Postgres
from tests.clone import git
from tests.system import System, running

LIST = """
query List($consistency: Consistency! = CACHE, $maxStaleness: Int) {
  sessions(first: 3, consistency: $consistency, maxStaleness: $maxStaleness) {
    totalCount
    nodes { id title markdown }
    provenance { source commit stale fallback verification ageSeconds }
  }
}
"""
CREATE = """
mutation { createSession(input: {title: "T", markdown: "x"}) { commit { oid } cache } }
"""


@pytest.fixture
async def system(github: GitHub, postgres: Postgres) -> AsyncIterator[System]:
    async with running(github, postgres.url) as gateway:
        await gateway.sync()
        yield gateway


async def provenance(system: System, **variables: object) -> dict[str, object]:
    answer = await system.ask(LIST, **variables)
    assert answer.errors == []
    assert answer.data["sessions"]["totalCount"] == 6
    told: dict[str, object] = answer.data["sessions"]["provenance"]
    assert told["commit"] == system.github.head
    return told


async def test_without_postgresql_reads_come_from_github_and_say_so(
    system: System, postgres: Postgres
) -> None:
    assert (await provenance(system))["source"] == "CACHE"

    await postgres.kill()

    for _ in range(2):
        told = await provenance(system)
        assert (told["source"], told["fallback"]) == ("MASTER", "CACHE_UNAVAILABLE")
        assert told["stale"] is False
    assert (await provenance(system, consistency="MASTER"))["source"] == "MASTER"
    told = await provenance(system, consistency="VERIFIED")
    assert told["verification"] == "CACHE_UNAVAILABLE"


async def test_when_postgresql_is_back_reads_return_to_the_cache_by_themselves(
    system: System, postgres: Postgres
) -> None:
    await postgres.kill()
    assert (await provenance(system))["fallback"] == "CACHE_UNAVAILABLE"

    await postgres.start()

    for _ in range(1000):
        told = await provenance(system)
        if told["source"] == "CACHE":
            return
    raise AssertionError("reads did not return to the cache")


async def test_without_postgresql_a_session_is_saved_at_github_and_the_cache_deferred(
    system: System, postgres: Postgres
) -> None:
    await postgres.kill()

    answer = await system.ask(CREATE)

    assert answer.errors == []
    assert answer.data["createSession"]["cache"] == "DEFERRED"
    assert answer.data["createSession"]["commit"]["oid"] == system.github.head


async def test_without_github_the_cache_serves_and_the_master_does_not(system: System) -> None:
    head = system.github.head
    await provenance(system)

    await system.github.stop()

    answer = await system.ask("{ sessions(first: 3) { totalCount provenance { source stale } } }")
    assert answer.data["sessions"] == {
        "totalCount": 6,
        "provenance": {"source": "CACHE", "stale": False},
    }
    for level in ("MASTER", "VERIFIED"):
        assert (await system.ask(LIST, consistency=level)).code == "MASTER_UNAVAILABLE"
    assert (await system.ask(CREATE)).code == "MASTER_UNAVAILABLE"
    assert git(system.github.path, "rev-parse", "main").decode().strip() == head


async def test_a_cache_too_old_is_passed_by_or_marked_stale_without_github(
    system: System,
) -> None:
    told = await provenance(system, maxStaleness=0)
    assert (told["source"], told["fallback"]) == ("MASTER", "CACHE_STALE")

    await system.github.stop()

    told = await provenance(system, maxStaleness=0)
    assert (told["source"], told["fallback"], told["stale"]) == (
        "CACHE",
        "MASTER_UNAVAILABLE",
        True,
    )


async def test_with_both_stores_down_the_error_is_clear(system: System, postgres: Postgres) -> None:
    await postgres.kill()
    await system.github.stop()

    answer = await system.ask(LIST)

    assert answer.code == "MASTER_UNAVAILABLE"


async def test_an_empty_cache_is_no_empty_list(github: GitHub, database_url: str) -> None:
    async with running(github, database_url) as system:
        told = await provenance(system)

    assert (told["source"], told["fallback"]) == ("MASTER", "CACHE_EMPTY")


async def test_readyz_names_what_is_down_and_is_ready_without_postgresql(
    system: System, postgres: Postgres
) -> None:
    await postgres.kill()

    async with system.http.get(f"{system.url}/readyz") as response:
        report = await response.json()

    assert response.status == 200
    assert set(report["down"]) == {"postgres", "redis"}


async def test_readyz_is_not_ready_with_both_stores_down(
    system: System, postgres: Postgres
) -> None:
    await postgres.kill()
    await system.github.stop()

    async with system.http.get(f"{system.url}/readyz") as response:
        report = await response.json()

    assert response.status == 503
    assert set(report["down"]) == {"github", "postgres", "redis"}


async def test_a_reader_does_not_wait_for_a_first_build(github: GitHub, database_url: str) -> None:
    async with running(github, database_url) as gateway:
        told = await provenance(gateway, consistency="VERIFIED")
        assert (told["source"], told["verification"]) == ("MASTER", "CACHE_UNAVAILABLE")
        answer = await gateway.ask("{ cacheStatus { available head } }")
        assert answer.data["cacheStatus"] == {"available": True, "head": None}
