"""What came of a write is found out, never guessed: once, not at all, or said to be unknown."""

import asyncio

import pytest

from sandbox.github import Fault, GitHub
from sandbox.github.faults import Kind, When
from tests.clone import Clone, git
from tests.system import System, running
from tests.writes.asking import (
    DRILL,
    ROOM,
    SEEDS,
    at_master,
    attempt,
    cached_head,
    commit_documents,
    paths_at_master,
    revision_of,
    subjects,
    write,
)

LOST: list[tuple[Kind, When]] = [
    ("bad_gateway", "before"),
    ("bad_gateway", "after"),
    ("gateway_timeout", "before"),
    ("gateway_timeout", "after"),
    ("dropped", "before"),
    ("dropped", "after"),
    ("something_wrong", "before"),
    ("something_wrong", "after"),
    ("partial", "after"),
]


@pytest.mark.parametrize(("kind", "when"), LOST)
async def test_a_lost_answer_does_not_double_or_lose_anything(
    system: System, kind: Kind, when: When
) -> None:
    system.github.faults.add(Fault(kind=kind, when=when, operation="mutation"))

    answer = await commit_documents(
        system,
        {"createSession": {"title": "Once", "markdown": "x"}},
        {"updateProject": {"id": ROOM, "status": "resting"}},
        {"delete": {"id": DRILL}},
        message="All of it",
    )

    assert answer.errors == []
    assert answer.data["commitDocuments"]["commit"]["oid"] == system.github.head
    assert subjects(system).count("All of it") == 1
    assert b"status: resting" in at_master(system, ROOM)
    assert DRILL not in paths_at_master(system)


@pytest.mark.parametrize(("kind", "when"), LOST)
async def test_a_guarded_write_whose_answer_was_lost_does_not_conflict_with_itself(
    system: System, kind: Kind, when: When
) -> None:
    system.github.faults.add(Fault(kind=kind, when=when, operation="mutation"))

    written = await write(
        system, "updateProject", id=ROOM, status="x", expectedRevision=revision_of(system, ROOM)
    )

    assert written["commit"]["oid"] == system.github.head


async def test_a_lost_write_is_found_below_the_commits_of_others(
    github: GitHub, database_url: str, clone: Clone
) -> None:
    async with running(github, database_url, {"WRITE_TIMEOUT_SECONDS": "3"}) as system:
        await system.sync()
        lost = github.faults.add(Fault(kind="hang", when="after", operation="mutation"))
        writing = asyncio.create_task(write(system, "updateProject", id=ROOM, status="x"))
        await lost.wait_until_struck()
        await asyncio.to_thread(clone.push, {"autosaves/other.md": "# Other\n"})

        written = await writing

    assert written["commit"]["oid"] == git(github.path, "rev-parse", "main^").decode().strip()


async def test_what_cannot_be_found_out_in_time_is_said_to_be_unknown_with_its_id(
    github: GitHub, database_url: str
) -> None:
    async with running(github, database_url, {"WRITE_TIMEOUT_SECONDS": "3"}) as system:
        await system.sync()
        await write(system, "updateProject", id=ROOM, rank=5, idempotencyKey="another key")
        github.faults.add(Fault(kind="bad_gateway", when="after", operation="mutation"))
        github.faults.add(Fault(kind="bad_gateway", operation="query", count=None))

        answer = await attempt(
            system, "updateProject", id=ROOM, status="x", idempotencyKey="my key"
        )
        github.faults.clear()

        assert answer.code == "OUTCOME_UNKNOWN"
        write_id = answer.errors[0]["extensions"]["writeId"]
        assert write_id in answer.errors[0]["message"]
        assert f"Annoris-Write: {write_id}" in git(github.path, "log", "-1", "--format=%B").decode()

        again = await write(system, "updateProject", id=ROOM, status="x", idempotencyKey="my key")

        assert again["commit"]["oid"] == github.head
        assert subjects(system).count(f"Update {ROOM}: status") == 1


async def test_a_write_of_unknown_outcome_is_not_served_away_by_the_old_content(
    github: GitHub, database_url: str
) -> None:
    """It may have landed: what the cache has of it is not fresh any more."""
    async with running(github, database_url, {"WRITE_TIMEOUT_SECONDS": "3"}) as system:
        await system.sync()
        github.faults.add(Fault(kind="bad_gateway", when="after", operation="mutation"))
        github.faults.add(
            Fault(kind="bad_gateway", operation="query", count=None, operation_name="History")
        )
        answer = await attempt(system, "updateProject", id=ROOM, status="x")
        assert answer.code == "OUTCOME_UNKNOWN"

        read = await system.ask(
            "query($id: ID!) { project(id: $id) { status provenance { commit stale } } }", id=ROOM
        )

        assert read.data["project"] == {
            "status": "x",
            "provenance": {"commit": github.head, "stale": False},
        }


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("branch_protection", "FORBIDDEN"),
        ("ruleset", "FORBIDDEN"),
        ("forbidden", "FORBIDDEN"),
        ("bad_credentials", "FORBIDDEN"),
        ("repository_missing", "MASTER_UNAVAILABLE"),
        ("secondary_rate_limit", "RATE_LIMITED"),
        ("rate_limit", "RATE_LIMITED"),
    ],
)
@pytest.mark.parametrize("name", ["updateProject", "deleteProject"])
async def test_what_github_refuses_is_saved_nowhere(
    system: System, name: str, kind: Kind, code: str
) -> None:
    head = system.github.head
    system.github.faults.add(Fault(kind=kind, count=None))

    more = {"status": "x"} if name == "updateProject" else {}
    answer = await attempt(system, name, id=ROOM, **more)

    assert answer.code == code
    assert "Nothing was saved" in answer.errors[0]["message"]
    assert (system.github.head, await cached_head(system)) == (head, head)


async def test_others_who_never_stop_committing_are_not_a_conflict(
    github: GitHub, database_url: str
) -> None:
    """A CONFLICT speaks of a document. This one is as the caller knows it."""
    async with running(github, database_url, {"WRITE_TIMEOUT_SECONDS": "3"}) as system:
        await system.sync()
        github.faults.add(Fault(kind="ref_moved", count=None))

        said = ""
        for _ in range(5):  # the time may be over just when a commit or a look is on its way
            if "Others kept committing" in said:
                break
            answer = await attempt(system, "updateProject", id=ROOM, status="x")
            assert answer.code in {"MASTER_UNAVAILABLE", "OUTCOME_UNKNOWN"}
            said = answer.errors[0]["message"]

    assert "Others kept committing" in said
    assert b"status: active" in at_master(system, ROOM)


async def test_a_head_that_moves_a_few_times_bothers_nobody(system: System) -> None:
    system.github.faults.add(Fault(kind="ref_moved", count=3))
    before = system.requests

    written = await write(system, "updateProject", id=ROOM, status="x")

    assert written["commit"]["oid"] == system.github.head
    assert system.requests - before == 1 + 3 * 2  # each time: head and paths, then the commit


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_caller_who_goes_away_does_not_take_the_write_back(
    system: System, when: When
) -> None:
    slow = system.github.faults.add(Fault(kind="latency", operation="mutation", ms=200, when=when))
    asking = asyncio.create_task(attempt(system, "updateProject", id=ROOM, status="gone"))
    await slow.wait_until_struck()
    waiting = asyncio.create_task(attempt(system, "updatePriority", id=SEEDS, status="gone"))
    await asyncio.sleep(0.05)  # it is queued by then; if not, it was never asked for
    asking.cancel()
    waiting.cancel()
    await asyncio.gather(asking, waiting, return_exceptions=True)

    for _ in range(1_000):
        saved = b"gone" in at_master(system, ROOM)
        if saved and await cached_head(system) == system.github.head:
            break
        await asyncio.sleep(0.01)
    assert subjects(system).count(f"Update {ROOM}: status") == 1


# What is told of a mutation that was carried out


async def test_a_mutation_that_fails_does_not_hide_what_those_beside_it_saved(
    system: System,
) -> None:
    answer = await system.ask(
        """mutation {
          a: updateProject(input: {id: "autosaves/projects/reading-room.md", status: "x"})
            { commit { oid } }
          b: deleteSession(input: {id: "autosaves/nowhere.md"}) { commit { oid } }
          c: createSession(input: {title: "T", markdown: "x"}) { commit { oid } }
        }"""
    )

    assert answer.code == "NOT_FOUND"
    assert answer.errors[0]["path"] == ["b"]
    assert "commit" not in answer.errors[0]["extensions"]
    assert answer.data["b"] is None
    assert answer.data["c"]["commit"]["oid"] == system.github.head
    assert answer.data["a"]["commit"]["oid"] in git(system.github.path, "log").decode()


async def test_what_fails_after_a_write_says_that_it_was_saved(system: System) -> None:
    system.github.faults.add(Fault(kind="bad_gateway", operation="query", count=None))

    answer = await system.ask(
        """mutation { createSession(input: {title: "T", markdown: "x"})
          { session { id project { id } } commit { oid } }
          other: createSession(input: {title: "T", markdown: "x"})
          { session { id revision(wrong: 1) } } }"""
    )
    assert answer.code == "BAD_INPUT"  # nothing of it was begun

    answer = await system.ask(
        """mutation($input: CreateProjectInput!) { createProject(input: $input)
          { project { sessions { nodes { markdown } totalCount } } commit { oid } } }""",
        input={"name": "Reading hall", "markdown": "x"},
    )
    assert answer.errors == []


async def test_a_commit_is_told_although_what_hangs_on_it_cannot_be_read(
    github: GitHub,
) -> None:
    async with running(github, "postgresql://127.0.0.1:1/nowhere") as system:
        github.faults.add(Fault(kind="bad_gateway", operation_name="Compare", count=None))

        answer = await system.ask(
            """mutation { createProject(input: {name: "Hall", markdown: "x"})
              { project { sessions { totalCount } } commit { oid } } }"""
        )

    [error] = answer.errors
    assert error["extensions"]["code"] == "MASTER_UNAVAILABLE"
    assert error["extensions"]["commit"] == github.head
    assert error["message"].startswith(f"It was saved in the commit {github.head}")


@pytest.mark.parametrize(
    "query",
    [
        '{ sessions(atLeast: "abc") { totalCount } }',
        '{ sessions(where: {from: "2026-11-01"}) { totalCount } }',
        'mutation { createSession(input: {title: "T", markdown: "x", occurredAt: "x"}) { cache } }',
        'mutation { updatePriority(input: {id: "x", dueOn: "2026-02-30"}) { cache } }',
        'mutation { updateProject(input: {id: "x", expectedRevision: 5}) { cache } }',
    ],
)
async def test_a_wrong_value_in_the_text_of_an_operation_is_bad_input(
    system: System, query: str
) -> None:
    assert (await system.ask(query)).code == "BAD_INPUT"
