"""Several gateways at once, and gateways that come and go: nothing is lost, nothing doubled."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from api.documents import Collection, Session, parse
from api.settings import load
from api.wiring import open_parts
from sandbox.github import Fault, GitHub
from tests.clone import git
from tests.writes.gateways import Answer, Gateway, environment, gateways

CREATE = """
mutation Create($input: CreateSessionInput!) {
  createSession(input: $input) { session { id } commit { oid } cache }
}
"""
UPDATE = """
mutation Update($input: UpdateSessionInput!) {
  updateSession(input: $input) { session { id revision tags } commit { oid } cache }
}
"""
READ = """
query Read($id: ID!, $atLeast: GitObjectID) {
  session(id: $id, atLeast: $atLeast) { tags provenance { source fallback } }
}
"""
DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
# Nothing hangs here: whatever takes long, a busy computer takes long for.
PATIENT = {
    "WRITE_TIMEOUT_SECONDS": "20",
    "MASTER_TIMEOUT_SECONDS": "20",
    "DATABASE_TIMEOUT_SECONDS": "10",
}
NOWHERE = "postgresql://127.0.0.1:1/annoris"  # no PostgreSQL listens there


@pytest.fixture
async def database_url(database_url: str, github: GitHub) -> str:
    """A cache in step with the master."""
    async with open_parts(load(environment(github, database_url, **PATIENT))) as parts:
        await parts.reconciler.run()
    return database_url


@pytest.fixture(params=["with PostgreSQL", "without"])
def store(request: pytest.FixtureRequest, database_url: str) -> str:
    return database_url if request.param == "with PostgreSQL" else NOWHERE


async def everywhere(
    servers: list[Gateway], query: str, *inputs: Mapping[str, object]
) -> list[Answer]:
    """All at once, in turns to each of them."""
    return list(
        await asyncio.gather(
            *(
                servers[number % len(servers)].ask(query, input=input)
                for number, input in enumerate(inputs)
            )
        )
    )


async def test_equal_titles_saved_at_once_get_paths_of_their_own(
    github: GitHub, store: str, tmp_path: Path
) -> None:
    async with gateways(2, github, store, tmp_path, **PATIENT) as servers:
        answers = await everywhere(servers, CREATE, *[{"title": "Same", "markdown": "x"}] * 20)

    assert [answer.errors for answer in answers] == [[]] * 20
    ids = {answer.data["createSession"]["session"]["id"] for answer in answers}
    listed = git(github.path, "ls-tree", "-r", "--name-only", "main").decode().splitlines()
    assert len(ids) == 20
    assert ids <= set(listed)


async def test_updates_without_a_guard_are_all_applied(
    github: GitHub, store: str, tmp_path: Path
) -> None:
    fields = ["status", "priority", "agent"]
    async with gateways(2, github, store, tmp_path, **PATIENT) as servers:
        answers = await everywhere(
            servers,
            UPDATE,
            *[
                {"id": DRILL, fields[n % 3]: f"value-{n}", "message": f"write {n}"}
                for n in range(30)
            ],
        )

    assert [answer.errors for answer in answers] == [[]] * 30
    log = git(github.path, "log", "--format=%B", "main").decode().splitlines()
    assert all(log.count(f"write {n}") + log.count(f"* write {n}") == 1 for n in range(30))
    content = git(github.path, "show", f"main:{DRILL}")
    now = parse(Collection.SESSIONS, DRILL, content, revision="0" * 40, max_bytes=100_000)
    assert isinstance(now, Session)
    assert all(str(value).startswith("value-") for value in (now.status, now.priority, now.agent))


async def test_of_many_updates_with_one_guard_exactly_one_wins(
    github: GitHub, store: str, tmp_path: Path
) -> None:
    revision = git(github.path, "rev-parse", f"main:{DRILL}").decode().strip()
    async with gateways(2, github, store, tmp_path, **PATIENT) as servers:
        answers = await everywhere(
            servers,
            UPDATE,
            *[
                {"id": DRILL, "expectedRevision": revision, "status": f"value-{n}"}
                for n in range(12)
            ],
        )

    won = [answer for answer in answers if not answer.errors]
    assert len(won) == 1
    assert {answer.code for answer in answers if answer.errors} == {"CONFLICT"}
    now = git(github.path, "rev-parse", f"main:{DRILL}").decode().strip()
    assert won[0].data["updateSession"]["session"]["revision"] == now
    assert {a.errors[0]["extensions"]["currentRevision"] for a in answers if a.errors} == {now}


async def test_one_key_sent_to_all_of_them_is_carried_out_once(
    github: GitHub, store: str, tmp_path: Path
) -> None:
    input = {"title": "Once", "markdown": "x", "idempotencyKey": "the same"}
    async with gateways(2, github, store, tmp_path, **PATIENT) as servers:
        answers = await everywhere(servers, CREATE, *[input] * 8)

    assert [answer.errors for answer in answers] == [[]] * 8
    assert len({answer.data["createSession"]["commit"]["oid"] for answer in answers}) == 1
    assert len({answer.data["createSession"]["session"]["id"] for answer in answers}) == 1
    assert git(github.path, "log", "--format=%B", "main").decode().count("Annoris-Key") == 1


async def test_what_one_wrote_the_other_reads_at_once(
    github: GitHub, store: str, tmp_path: Path
) -> None:
    async with gateways(2, github, store, tmp_path, **PATIENT) as (one, other):
        saved = await one.ask(UPDATE, input={"id": DRILL, "tags": ["new"]})
        oid = saved.data["updateSession"]["commit"]["oid"]

        answer = await other.ask(READ, id=DRILL, atLeast=oid)

    assert answer.data["session"]["tags"] == ["new"]


async def test_a_key_is_good_after_a_restart_and_without_the_cache(
    github: GitHub, database_url: str, tmp_path: Path
) -> None:
    input = {"title": "Once", "markdown": "x", "idempotencyKey": "k"}
    oids = set()
    for url in (database_url, database_url, NOWHERE):
        async with gateways(1, github, url, tmp_path, **PATIENT) as (gateway,):
            answer = await gateway.ask(CREATE, input=input)
            oids.add(answer.data["createSession"]["commit"]["oid"])
            other = await gateway.ask(CREATE, input=input | {"markdown": "y"})
            assert other.code == "BAD_INPUT"

    assert len(oids) == 1


async def test_sigterm_lets_writes_finish_that_have_begun(
    github: GitHub, database_url: str, tmp_path: Path
) -> None:
    async with gateways(1, github, database_url, tmp_path, **PATIENT) as (gateway,):
        slow = github.faults.add(Fault(kind="latency", operation="mutation", ms=400, count=None))
        asked = [
            asyncio.create_task(gateway.ask(CREATE, input={"title": f"T{n}", "markdown": "x"}))
            for n in range(10)
        ]
        await slow.wait_until_struck()
        await gateway.stop()
        answers = await asyncio.gather(*asked)

    assert [answer.errors for answer in answers] == [[]] * 10
    assert {answer.data["createSession"]["cache"] for answer in answers} == {"UPDATED"}


async def test_what_a_killed_gateway_had_sent_is_there_once_or_not_at_all(
    github: GitHub, database_url: str, tmp_path: Path
) -> None:
    input = {"title": "Killed", "markdown": "x", "idempotencyKey": "k"}
    async with gateways(1, github, database_url, tmp_path, **PATIENT) as (gateway,):
        slow = github.faults.add(Fault(kind="latency", when="after", operation="mutation", ms=300))
        asked = asyncio.create_task(gateway.ask(CREATE, input=input))
        await slow.wait_until_struck()
        await gateway.kill()
        assert (await asked).is_lost
        await gateway.start()

        again = await gateway.ask(CREATE, input=input)

    assert again.errors == []
    log = git(github.path, "log", "--format=%B", "main").decode()
    assert log.count("Annoris-Write") == 1
