"""idempotencyKey: the same key with the same content is carried out once, whatever happens."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from sandbox.github import Fault, GitHub
from tests.clone import Clone, git
from tests.sync.oracle import head_of
from tests.system import System, running
from tests.writes.asking import (
    DRILL,
    NO_OID,
    ROOM,
    SEEDS,
    at_master,
    attempt,
    commit_documents,
    last_message,
    mutation,
    paths_at_master,
    subjects,
    write,
)

KEY = {"idempotencyKey": "Ключ 🔑 of mine"}
WRITES: list[tuple[str, dict[str, object]]] = [
    ("createSession", {"title": "Same", "markdown": "x", "status": "open"}),
    ("createProject", {"name": "Greenhouse", "markdown": "x"}),
    ("updateProject", {"id": ROOM, "status": "resting"}),
    ("updatePriority", {"id": SEEDS, "markdown": "Other.\n", "rank": None}),
    ("deletePriority", {"id": SEEDS}),
]


@pytest.fixture
async def other(github: GitHub, database_url: str) -> AsyncIterator[System]:
    """Another process."""
    async with running(github, database_url) as gateway:
        yield gateway


@pytest.mark.parametrize(("name", "input"), WRITES)
async def test_a_write_that_is_sent_again_gets_its_first_outcome(
    system: System, name: str, input: dict[str, object]
) -> None:
    first = await write(system, name, **input, **KEY)
    await write(system, "updateSession", id=DRILL, status="meanwhile")
    before = system.requests

    again = await write(system, name, **input, **KEY)

    assert system.requests - before <= 1
    assert again["commit"] == first["commit"]
    assert git(system.github.path, "rev-parse", "main^").decode().strip() == first["commit"]["oid"]
    for kind in ("session", "project", "priority"):
        if kind in first:
            for fact in ("id", "revision", "markdown", "metadata"):
                assert again[kind][fact] == first[kind][fact]


@pytest.mark.parametrize(("name", "input"), WRITES)
async def test_a_key_is_good_in_a_process_that_was_not_there_the_first_time(
    system: System, other: System, name: str, input: dict[str, object]
) -> None:
    first = await write(system, name, **input, **KEY)

    again = await write(other, name, **input, **KEY)

    assert again["commit"] == first["commit"]
    assert system.github.head == first["commit"]["oid"]


@pytest.mark.parametrize(("name", "input"), WRITES)
async def test_a_key_is_good_after_the_cache_was_wiped(
    other: System, database_url: str, name: str, input: dict[str, object]
) -> None:
    first = await write(other, name, **input, **KEY)
    connection = await asyncpg.connect(database_url)
    # The head first, as the gateway does: it may be at work, and each would wait for the other.
    tables = "head, sessions, projects, priorities, applied_commits, directories, keyed_history"
    await connection.execute(f"TRUNCATE {tables}")
    await connection.close()

    again = await write(other, name, **input, **KEY)

    assert again["commit"] == first["commit"]
    assert other.github.head == first["commit"]["oid"]


async def test_sent_many_times_at_once_it_is_carried_out_once(system: System) -> None:
    answers = await asyncio.gather(
        *(write(system, "createSession", title="T", markdown="x", **KEY) for _ in range(20))
    )

    assert len({answer["commit"]["oid"] for answer in answers}) == 1
    assert len({answer["session"]["id"] for answer in answers}) == 1
    assert len([s for s in subjects(system) if s.startswith("Create autosaves")]) == 1


async def test_a_first_outcome_stands_although_what_it_needed_is_gone(
    system: System,
) -> None:
    asked = {"title": "T", "markdown": "x", "project": ROOM, **KEY}
    first = await write(system, "createSession", **asked)
    await write(system, "deleteProject", id=ROOM)

    again = await write(system, "createSession", **asked)

    assert again["commit"] == first["commit"]


async def test_what_changed_since_does_not_change_the_first_outcome(
    system: System, clone: Clone
) -> None:
    first = await write(system, "createSession", title="T", markdown="x\n", **KEY)
    path = first["session"]["id"]
    clone.push({path: None})
    await system.sync()

    again = await write(system, "createSession", title="T", markdown="x\n", **KEY)

    assert again["session"]["markdown"] == first["session"]["markdown"]
    assert path not in paths_at_master(system)


@pytest.mark.parametrize(
    "other",
    [
        {"markdown": "y"},
        {"title": "U"},
        {"status": "open"},
        {"tags": []},
        {"message": "other"},
        {"path": "autosaves/t.md"},
        {"occurredAt": "2026-01-01T00:00:00Z"},
    ],
)
async def test_the_same_key_with_other_content_is_refused(
    system: System, other: dict[str, object]
) -> None:
    first = await write(system, "createSession", title="T", markdown="x", **KEY)

    answer = await attempt(
        system, "createSession", **({"title": "T", "markdown": "x"} | KEY | other)
    )

    assert answer.code == "BAD_INPUT"
    assert "idempotencyKey" in answer.errors[0]["message"]
    assert first["commit"]["oid"] in answer.errors[0]["message"]
    assert system.github.head == first["commit"]["oid"]


async def test_the_same_key_for_another_mutation_is_refused(system: System) -> None:
    await write(system, "updateProject", id=ROOM, status="x", **KEY)

    assert (await attempt(system, "deleteProject", id=ROOM, **KEY)).code == "BAD_INPUT"
    assert ROOM in paths_at_master(system)


async def test_different_keys_are_different_writes(system: System) -> None:
    one, two = [
        await write(system, "createSession", title="T", markdown="x", idempotencyKey=key)
        for key in ("a", "b")
    ]

    assert one["session"]["id"] != two["session"]["id"]


async def test_a_refused_write_uses_up_no_key(system: System) -> None:
    answer = await attempt(system, "updateProject", id=ROOM, expectedRevision=NO_OID, **KEY)
    assert answer.code == "CONFLICT"

    written = await write(system, "updateProject", id=ROOM, status="x", **KEY)

    assert written["commit"]["oid"] == system.github.head


async def test_a_commit_of_many_has_one_key(system: System) -> None:
    operations = [
        {"createSession": {"title": "Same", "markdown": "a"}},
        {"createSession": {"title": "Same", "markdown": "b"}},
        {"rename": {"id": DRILL, "path": "autosaves/drill.md"}},
        {"delete": {"id": SEEDS}},
    ]
    first = await commit_documents(system, *operations, **KEY)

    again = await commit_documents(system, *operations, **KEY)
    other = await commit_documents(system, *reversed(operations), **KEY)

    assert again.data == first.data
    assert len(subjects(system)) == 2
    assert other.code == "BAD_INPUT"


async def test_only_digests_of_a_key_are_in_the_history(system: System) -> None:
    secret = "hunter2-is-no-key"
    await write(system, "updateProject", id=ROOM, status="x", idempotencyKey=secret)

    message = last_message(system)
    assert "Annoris-Key: " in message
    assert secret not in message


async def test_a_write_without_a_key_asks_for_no_history(system: System) -> None:
    await write(system, "updateProject", id=ROOM, status="a", **KEY)
    before = system.requests

    await write(system, "updateProject", id=ROOM, status="b")
    await write(system, "updateProject", id=ROOM, status="c", idempotencyKey="another")

    assert system.requests - before == 2  # and one with a key knows the history by now


async def test_while_the_history_cannot_be_read_only_writes_with_a_key_fail(
    system: System,
) -> None:
    system.github.faults.add(Fault(kind="bad_gateway", operation="query", count=None))

    with_key, without = await asyncio.gather(
        system.ask(mutation("updateProject"), input={"id": ROOM, "status": "x", **KEY}),
        system.ask(mutation("updatePriority"), input={"id": SEEDS, "status": "x"}),
    )

    assert with_key.code == "MASTER_UNAVAILABLE"
    assert "Nothing was saved" in with_key.errors[0]["message"]
    assert without.errors == []
    assert b"status: active" in at_master(system, ROOM)


async def test_who_cannot_be_told_whether_it_was_saved_before_is_not_told_that_it_was_not(
    github: GitHub, database_url: str
) -> None:
    async with running(github, database_url, {"WRITE_TIMEOUT_SECONDS": "3"}) as system:
        await system.sync()
        github.faults.add(Fault(kind="bad_gateway", when="after", operation="mutation"))
        github.faults.add(Fault(kind="bad_gateway", operation_name="History", count=None))
        first = await attempt(system, "updateProject", id=ROOM, status="x", **KEY)
        assert first.code == "OUTCOME_UNKNOWN"
    async with running(github, database_url, {"WRITE_TIMEOUT_SECONDS": "3"}) as system:
        github.faults.add(Fault(kind="bad_gateway", operation="query", count=None))

        again = await attempt(system, "updateProject", id=ROOM, status="x", **KEY)

    assert again.code == "MASTER_UNAVAILABLE"
    assert "whether an earlier try was saved is not known" in again.errors[0]["message"]
    assert "Nothing was saved." not in again.errors[0]["message"]


async def test_while_a_long_history_is_read_writes_without_a_key_go_first(
    github: GitHub, database_url: str
) -> None:
    async with running(github, database_url, {"WRITE_TIMEOUT_SECONDS": "4"}) as system:
        await system.sync()
        slow = github.faults.add(
            Fault(kind="hang", operation_name="HistoryOf", operation="query", count=None)
        )
        keyed = asyncio.create_task(attempt(system, "updateProject", id=ROOM, status="x", **KEY))
        await slow.wait_until_struck()

        await write(system, "updatePriority", id=SEEDS, status="x")
        await write(system, "createSession", title="T", markdown="x")

        assert not keyed.done()
        assert (await keyed).code == "MASTER_UNAVAILABLE"


async def test_a_cache_at_a_commit_that_is_no_more_does_not_keep_keys_from_working(
    system: System, clone: Clone, github: GitHub
) -> None:
    await write(system, "updateProject", id=ROOM, status="one")
    git(clone.path, "pull", "--quiet")
    git(clone.path, "commit", "--quiet", "--amend", "--message", "Rewritten")
    git(clone.path, "push", "--quiet", "--force")
    git(github.path, "reflog", "expire", "--expire=now", "--all")
    git(github.path, "gc", "--quiet", "--prune=now")

    written = await write(system, "updateProject", id=ROOM, status="two", **KEY)

    assert written["commit"]["oid"] == github.head


# The copy in the cache


async def until_copied(database_url: str, head: str) -> None:
    """Until the cache's copy of the keyed writes has come to a commit."""
    connection = await asyncpg.connect(database_url)
    for _ in range(1_000):
        if await connection.fetchval("SELECT head FROM keyed_history") == head:
            await connection.close()
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the copy was not made")


def history_of(system: System, commits: int) -> None:
    """Commits of others, so many that reading them all takes a while."""
    stream = b"".join(
        b"commit refs/heads/main\ncommitter Other <other@example.org> now\ndata 1\n.\n"
        + (b"from refs/heads/main^0\n" if number == 0 else b"")
        for number in range(commits)
    )
    git(system.github.path, "fast-import", "--quiet", "--date-format=now", stdin=stream)


async def test_a_process_that_starts_does_not_read_the_history_again(
    system: System, other: System, database_url: str
) -> None:
    history_of(system, 450)
    await system.sync()
    before = system.requests
    first = await write(system, "updateProject", id=ROOM, status="x", **KEY)
    await until_copied(database_url, first["commit"]["oid"])

    await write(other, "updatePriority", id=SEEDS, status="x", idempotencyKey="another")

    assert system.requests - before > 5
    assert other.requests == 1
    again = await write(other, "updateProject", id=ROOM, status="x", **KEY)
    assert again["commit"] == first["commit"]


async def test_a_long_history_without_keys_is_read_once_as_well(
    system: System, other: System, database_url: str
) -> None:
    history_of(system, 450)
    await system.sync()
    refused = await attempt(system, "updateProject", id=ROOM, expectedRevision=NO_OID, **KEY)
    assert refused.code == "CONFLICT"
    await until_copied(database_url, head_of(system.github.path))

    await write(other, "updatePriority", id=SEEDS, status="x", idempotencyKey="another")

    assert other.requests == 1


async def test_a_copy_of_another_history_is_not_believed(
    system: System, other: System, clone: Clone, database_url: str
) -> None:
    base = head_of(system.github.path)
    first = await write(system, "updateProject", id=ROOM, status="x", **KEY)
    await until_copied(database_url, first["commit"]["oid"])
    git(clone.path, "pull", "--quiet")
    clone.reset(base)  # as if it had never been
    clone.push({"autosaves/instead.md": "# Instead\n"})
    await other.sync()

    again = await write(other, "updateProject", id=ROOM, status="x", **KEY)

    assert again["commit"]["oid"] == system.github.head != first["commit"]["oid"]
    await until_copied(database_url, head_of(system.github.path))


async def test_two_processes_keep_one_copy(
    system: System, other: System, database_url: str
) -> None:
    for number in range(3):
        for one in (system, other):
            key = f"{number} {one is other}"
            await write(one, "createSession", title=key, markdown="x", idempotencyKey=key)
    await until_copied(database_url, head_of(system.github.path))

    connection = await asyncpg.connect(database_url)
    copied = await connection.fetchval("SELECT count(*) FROM keyed_writes")
    await connection.close()
    assert copied == 6


async def test_a_copy_that_another_process_wrote_anew_is_filled_up_and_not_written_again(
    system: System, other: System, database_url: str
) -> None:
    async def keyed(one: System, key: str) -> None:
        await write(one, "createSession", title=key, markdown="x", idempotencyKey=key)
        await until_copied(database_url, head_of(system.github.path))

    await keyed(system, "a")
    await keyed(other, "b")
    connection = await asyncpg.connect(database_url)
    await connection.execute("TRUNCATE keyed_history, keyed_writes")
    await keyed(system, "c")
    generation = await connection.fetchval("SELECT generation FROM keyed_history")

    await keyed(other, "d")
    await keyed(system, "e")

    assert await connection.fetchval("SELECT generation FROM keyed_history") == generation
    assert await connection.fetchval("SELECT count(*) FROM keyed_writes") == 5
    await connection.close()
