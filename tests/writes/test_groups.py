"""Group commit: what comes in while a commit is on its way goes out together as the next one."""

import asyncio
import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

import asyncpg
import pytest

from api.master.master import Master
from sandbox.github import Fault, GitHub
from tests.clone import Clone, git
from tests.sync.oracle import assert_equals_master
from tests.sync.oracle import commit as push
from tests.system import Answer, System, running
from tests.writes.asking import (
    DRILL,
    NO_OID,
    ROOM,
    SEEDS,
    SYNC_RU,
    at_master,
    attempt,
    cached_head,
    commit_documents,
    last_message,
    mutation,
    paths_at_master,
    revision_of,
    subjects,
    write,
)

UPDATE = mutation("updateSession")


@pytest.fixture
def far(system: System) -> System:
    """GitHub answers after half a second, as it does."""
    system.github.faults.add(Fault(kind="latency", ms=500, count=None))
    return system


async def in_one_group(system: System, *writes: tuple[str, Mapping[str, object]]) -> list[Answer]:
    """Send writes while another one is on its way; they are queued in this order."""
    busy = system.github.faults.add(Fault(kind="latency", operation="mutation", ms=400))
    first = asyncio.create_task(attempt(system, "updateSession", id=SYNC_RU, status="busy"))
    await busy.wait_until_struck()
    asked = []
    for name, input in writes:
        asked.append(asyncio.create_task(attempt(system, name, **input)))
        await asyncio.sleep(0.02)
    assert (await first).errors == []
    return list(await asyncio.gather(*asked))


async def test_a_hundred_sessions_at_once_go_into_few_commits(far: System) -> None:
    before = len(subjects(far))

    answers = await asyncio.gather(
        *(
            write(far, "createSession", title=f"Session {n}", markdown=f"text {n}\n")
            for n in range(100)
        )
    )

    assert len(subjects(far)) - before <= 4
    for number, answer in enumerate(answers):
        assert answer["cache"] == "UPDATED"
        assert at_master(far, answer["session"]["id"]).decode().endswith(f"text {number}\n")
    await assert_equals_master(far.parts.gateway.cache, far.github.path, far.parts.gateway.layout)


async def test_a_hundred_sessions_of_one_title_all_get_paths_of_their_own(far: System) -> None:
    before = len(subjects(far))

    answers = await asyncio.gather(
        *(write(far, "createSession", title="Same", markdown=f"{n}\n") for n in range(100))
    )

    assert len({answer["session"]["id"] for answer in answers}) == 100
    assert len(subjects(far)) - before <= 4


async def test_a_hundred_updates_of_one_document_are_all_applied_in_their_order(
    far: System,
) -> None:
    asked = []
    for number in range(100):
        fields = {"agent": f"a{number}"} if number % 2 else {"status": f"s{number}"}
        asked.append(asyncio.create_task(far.ask(UPDATE, input={"id": DRILL, **fields})))
        if number == 97:
            await asyncio.gather(*asked)  # the last two are certainly the last
    answers = await asyncio.gather(*asked)

    assert [answer.errors for answer in answers] == [[]] * 100
    text = at_master(far, DRILL).decode()
    assert "s98" in text
    assert "a99" in text
    assert "PostgreSQL was stopped while an agent was reading." in text
    written = git(far.github.path, "log", "--format=%B").decode()
    assert len(re.findall("^Annoris-Write: ", written, re.MULTILINE)) == 100


async def test_each_of_a_group_is_answered_with_its_own_document(system: System) -> None:
    answers = await in_one_group(
        system,
        ("createSession", {"title": "Own", "markdown": "x"}),
        ("updateProject", {"id": ROOM, "status": "resting"}),
        ("deletePriority", {"id": SEEDS}),
    )

    created, updated, deleted = (next(iter(answer.data.values())) for answer in answers)
    assert created["session"]["title"] == "Own"
    assert updated["project"]["status"] == "resting"
    assert deleted["id"] == SEEDS
    assert {one["commit"]["oid"] for one in (created, updated, deleted)} == {system.github.head}


async def test_the_message_of_a_group_reads_well_and_each_write_has_its_trailer(
    system: System,
) -> None:
    await in_one_group(
        system,
        ("updateProject", {"id": ROOM, "status": "x", "message": "Room\n\nIt is closed."}),
        ("deletePriority", {"id": SEEDS}),
    )

    told, _, trailers = last_message(system).partition("\n\nAnnoris-Write: ")
    assert told == (
        f"Save 2 changes: Room, Delete {SEEDS}\n\n* Room\n  It is closed.\n* Delete {SEEDS}"
    )
    assert trailers.count("Annoris-Write: ") == 1


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (("updateSession", {"id": "autosaves/nowhere.md", "status": "x"}), "NOT_FOUND"),
        (("updateSession", {"id": DRILL, "expectedRevision": NO_OID}), "CONFLICT"),
        (("createProject", {"name": "Reading room", "markdown": "x"}), "CONFLICT"),
        (("createSession", {"title": "", "markdown": "x"}), "BAD_INPUT"),
        (("createSession", {"title": "T", "markdown": "x", "path": f"{DRILL}/x.md"}), "CONFLICT"),
        # Only GitHub finds out about this one, and refuses the whole commit.
        (("createSession", {"title": "T", "markdown": "against the rules"}), "BAD_INPUT"),
    ],
)
async def test_a_bad_write_does_not_fail_its_neighbours(
    system: System, bad: tuple[str, dict[str, object]], code: str
) -> None:
    system.github.faults.add(
        Fault(
            kind="ruleset",
            message="Secret detected in content",
            containing="against the rules",
            count=None,
        )
    )
    answers = await in_one_group(
        system,
        ("updateProject", {"id": ROOM, "status": "good"}),
        bad,
        ("updatePriority", {"id": SEEDS, "status": "good"}),
        ("createSession", {"title": "Good", "markdown": "x"}),
    )

    assert [answer.code for answer in answers] == [None, code, None, None]
    assert b"status: good" in at_master(system, ROOM)
    assert b"status: good" in at_master(system, SEEDS)
    assert "Nothing was saved" in answers[1].errors[0]["message"]


async def test_a_document_that_cannot_be_read_does_not_fail_the_neighbours(
    github: GitHub, database_url: str
) -> None:
    cold = "autosaves/2020-01-01-cold.md"
    push(github.path, {cold: b"---\ndate: 2020-01-01\n---\n# Cold\n"}, at=1_577_880_000)
    async with running(github, database_url) as system:
        await system.sync()
        connection = await asyncpg.connect(database_url)
        await connection.execute("UPDATE sessions SET markdown = NULL WHERE path = $1", cold)
        await connection.close()
    async with running(github, database_url) as system:
        github.faults.add(Fault(kind="corrupted_blob", count=None))

        answers = await in_one_group(
            system,
            ("updateSession", {"id": cold, "status": "x"}),
            ("createSession", {"title": "Good", "markdown": "x"}),
            ("deletePriority", {"id": SEEDS}),
        )

    assert [answer.code for answer in answers] == ["MASTER_UNAVAILABLE", None, None]


async def test_of_two_in_a_group_that_mind_the_same_revision_the_first_wins(
    system: System,
) -> None:
    seen = revision_of(system, ROOM)

    one, two = await in_one_group(
        system,
        ("updateProject", {"id": ROOM, "status": "one", "expectedRevision": seen}),
        ("updateProject", {"id": ROOM, "status": "two", "expectedRevision": seen}),
    )

    assert (one.code, two.code) == (None, "CONFLICT")
    told = two.errors[0]["extensions"]["currentRevision"]
    assert told == one.data["updateProject"]["project"]["revision"] == revision_of(system, ROOM)


async def test_writes_to_one_path_keep_their_order(system: System) -> None:
    answers = await in_one_group(
        system,
        ("updateProject", {"id": ROOM, "status": "first"}),
        ("deleteProject", {"id": ROOM}),
        ("createProject", {"name": "Reading room", "markdown": "anew\n"}),
        ("updateProject", {"id": ROOM, "status": "last"}),
    )

    assert [answer.code for answer in answers] == [None] * 4
    text = at_master(system, ROOM).decode()
    assert "status: last" in text
    assert "anew" in text
    assert (await attempt(system, "updateProject", id=ROOM)).code is None


async def test_while_github_is_down_all_who_wait_are_told_and_nothing_is_saved(
    system: System,
) -> None:
    head = system.github.head
    system.github.faults.add(Fault(kind="branch_protection", count=None))

    answers = await asyncio.gather(
        *(attempt(system, "createSession", title=f"{n}", markdown="x") for n in range(30))
    )

    assert {answer.code for answer in answers} == {"FORBIDDEN"}
    assert (system.github.head, await cached_head(system)) == (head, head)


async def test_a_group_is_built_anew_upon_what_others_pushed(
    system: System, clone: Clone, github: GitHub
) -> None:
    theirs = at_master(system, SEEDS).decode().replace("rank: 2", "rank: 9")
    clone.push({SEEDS: theirs, DRILL: None})

    answers = await in_one_group(
        system,
        ("updatePriority", {"id": SEEDS, "status": "mine"}),
        ("updateSession", {"id": DRILL, "status": "mine"}),
        ("updateProject", {"id": ROOM, "status": "mine"}),
    )

    assert [answer.code for answer in answers] == [None, "NOT_FOUND", None]
    assert at_master(system, SEEDS).decode() == theirs.replace("open", "mine")
    assert DRILL not in paths_at_master(system)
    assert github.head == answers[0].data["updatePriority"]["commit"]["oid"]


async def test_large_documents_are_spread_over_commits(system: System) -> None:
    before = len(subjects(system))

    answers = await in_one_group(
        system,
        *(("createSession", {"title": f"{n}", "markdown": "x" * 1_500_000}) for n in range(5)),
    )

    assert [answer.errors for answer in answers] == [[]] * 5
    assert 1 + 3 <= len(subjects(system)) - before <= 1 + 5


async def test_a_document_that_is_wide_in_bytes_is_changed_as_a_whole(
    system: System, github: GitHub
) -> None:
    text = "---\nstatus: open\n---\n" + "Ж🌱" * 300_000
    push(github.path, {"autosaves/wide.md": text.encode()})
    await system.sync()

    await write(system, "updateSession", id="autosaves/wide.md", status="done")

    assert at_master(system, "autosaves/wide.md").decode() == text.replace("open", "done")


async def test_a_document_too_large_to_be_written_again_is_not_fetched_whole(
    system: System, github: GitHub
) -> None:
    push(github.path, {"autosaves/huge.md": b"x" * 9_000_000})
    await system.sync()
    github.requests.clear()

    answer = await attempt(system, "updateSession", id="autosaves/huge.md", status="x")

    assert answer.code == "LIMIT_EXCEEDED"
    assert all(request.response_bytes < 1_000_000 for request in github.requests)


async def test_many_writes_of_many_documents_are_looked_at_in_portions(
    github: GitHub, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the cache what lies at all their paths is asked of GitHub, in one request."""
    paths = [f"autosaves/many/{number}.md" for number in range(450)]
    push(github.path, dict.fromkeys(paths, b"---\nstatus: open\n---\nx\n"))
    asked: list[int] = []
    head_with = Master.head_with

    async def counted(self: Master, paths: Iterable[str], *, contents: Container[str] = ()) -> Any:
        asked.append(len(listed := list(paths)))
        return await head_with(self, listed, contents=contents)

    monkeypatch.setattr(Master, "head_with", counted)
    patience = {"WRITE_TIMEOUT_SECONDS": "60"}  # it is the work of seconds, on a busy computer more
    async with running(github, database_url, patience) as system:
        answers = await asyncio.gather(
            *(
                commit_documents(
                    system,
                    *({"updateSession": {"id": path, "status": "done"}} for path in part),
                )
                for part in (paths[i : i + 45] for i in range(0, 450, 45))
            )
        )

    assert [answer.errors for answer in answers] == [[]] * 10
    assert max(asked) <= 200
