"""commitDocuments: many documents in one commit, all of them or none."""

import pytest

from sandbox.github import GitHub
from tests.clone import Clone, git
from tests.sync.oracle import SUBMODULE, SYMLINK, assert_equals_master
from tests.sync.oracle import commit as push
from tests.system import System
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
    paths_at_master,
    revision_of,
)

NEW = "autosaves/new.md"


async def test_documents_of_every_collection_are_changed_in_one_commit(system: System) -> None:
    before, head = system.requests, system.github.head
    moved = at_master(system, SYNC_RU)

    answer = await commit_documents(
        system,
        {"createProject": {"name": "Сад", "markdown": "x"}},
        {"createSession": {"title": "T", "markdown": "x", "project": "autosaves/projects/sad.md"}},
        {"updateProject": {"id": ROOM, "status": "resting"}},
        {"updatePriority": {"id": SEEDS, "project": "autosaves/projects/sad.md"}},
        {"delete": {"id": DRILL}},
        {"rename": {"id": SYNC_RU, "path": "autosaves/2026/sync.md"}},
        message="Move things around",
    )

    assert answer.errors == []
    done = answer.data["commitDocuments"]
    assert system.requests - before == 2  # whether the new path is free, only GitHub knows
    assert git(system.github.path, "rev-parse", "main^").decode().strip() == head
    assert (done["commit"]["oid"], done["cache"]) == (system.github.head, "UPDATED")
    kinds = [document and document["__typename"] for document in done["documents"]]
    assert kinds == ["Project", "Session", "Project", "Priority", None, "Session"]
    for document in done["documents"]:
        if document:
            assert document["revision"] == revision_of(system, document["id"])
            assert document["markdown"].encode() == at_master(system, document["id"])
    assert at_master(system, "autosaves/2026/sync.md") == moved
    assert not {DRILL, SYNC_RU} & paths_at_master(system)
    await assert_equals_master(
        system.parts.gateway.cache, system.github.path, system.parts.gateway.layout
    )


async def test_the_message_lists_what_was_done(system: System) -> None:
    await commit_documents(
        system,
        {"updateProject": {"id": ROOM, "status": "x", "message": "The room is full"}},
        {"delete": {"id": DRILL}},
        {"rename": {"id": SYNC_RU, "path": NEW}},
    )

    told, _, _ = last_message(system).partition("\n\nAnnoris-Write: ")
    assert told == (
        f"Change 3 documents\n\nThe room is full\nDelete {DRILL}\nRename {SYNC_RU} to {NEW}"
    )


async def test_git_follows_a_renamed_document_to_its_beginning(system: System) -> None:
    await commit_documents(system, {"rename": {"id": DRILL, "path": NEW}})

    followed = git(system.github.path, "log", "--follow", "--format=%s", "main", "--", NEW)
    assert len(followed.decode().splitlines()) == 2


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ({"updateSession": {"id": "autosaves/nowhere.md", "status": "x"}}, "NOT_FOUND"),
        ({"updateSession": {"id": ROOM, "status": "x"}}, "NOT_FOUND"),
        ({"updateSession": {"id": DRILL, "expectedRevision": NO_OID}}, "CONFLICT"),
        ({"updateSession": {"id": DRILL, "markdown": None}}, "BAD_INPUT"),
        ({"updateSession": {"id": DRILL, "markdown": "a\0"}}, "BAD_INPUT"),
        ({"updateSession": {"id": DRILL, "project": "nowhere"}}, "BAD_INPUT"),
        ({"updateSession": {"id": DRILL, "idempotencyKey": "k"}}, "BAD_INPUT"),
        ({"updateSession": {"id": DRILL, "message": "a\0"}}, "BAD_INPUT"),
        ({"createSession": {"title": "T", "markdown": "x", "path": SYNC_RU}}, "CONFLICT"),
        ({"createSession": {"title": "", "markdown": "x"}}, "BAD_INPUT"),
        ({"createSession": {"title": "T", "markdown": "x", "path": "x.md"}}, "BAD_INPUT"),
        ({"createProject": {"name": "Reading room", "markdown": "x"}}, "CONFLICT"),
        ({"delete": {"id": "README.md"}}, "NOT_FOUND"),
        ({"delete": {"id": DRILL, "expectedRevision": NO_OID}}, "CONFLICT"),
        ({"rename": {"id": "autosaves/nowhere.md", "path": NEW}}, "NOT_FOUND"),
        ({"rename": {"id": DRILL, "path": SYNC_RU}}, "CONFLICT"),
        ({"rename": {"id": DRILL, "path": "elsewhere/x.md"}}, "BAD_INPUT"),
        ({"rename": {"id": DRILL, "path": "autosaves/../x.md"}}, "BAD_INPUT"),
        ({"rename": {"id": DRILL, "path": ".github/workflows/x.md"}}, "BAD_INPUT"),
        ({"rename": {"id": DRILL, "path": "autosaves/x.txt"}}, "BAD_INPUT"),
        ({"rename": {"id": DRILL, "path": f"{SYNC_RU}/x.md"}}, "CONFLICT"),
    ],
)
async def test_one_bad_operation_is_named_and_keeps_all_the_others_from_being_saved(
    system: System, operation: object, code: str
) -> None:
    head = system.github.head

    answer = await commit_documents(
        system, {"createSession": {"title": "Good", "markdown": "x"}}, operation
    )

    assert answer.code == code
    assert "Nothing was saved" in answer.errors[0]["message"]
    assert answer.errors[0]["extensions"]["operation"] == 1
    assert (system.github.head, await cached_head(system)) == (head, head)


async def test_each_operation_sees_what_those_before_it_did(system: System) -> None:
    answer = await commit_documents(
        system,
        {"createSession": {"title": "T", "markdown": "first\n", "path": NEW}},
        {"updateSession": {"id": NEW, "status": "open"}},
        {"updateSession": {"id": NEW, "agent": "scribe"}},
        {"rename": {"id": NEW, "path": "autosaves/newer.md"}},
        {"rename": {"id": DRILL, "path": NEW}},
    )

    assert answer.errors == []
    text = at_master(system, "autosaves/newer.md").decode()
    assert "status: open" in text
    assert "agent: scribe" in text
    assert [d and d["id"] for d in answer.data["commitDocuments"]["documents"]] == [
        NEW,
        NEW,
        NEW,
        "autosaves/newer.md",
        NEW,
    ]


async def test_two_documents_change_places(system: System) -> None:
    one, two = at_master(system, DRILL), at_master(system, SYNC_RU)

    answer = await commit_documents(
        system,
        {"rename": {"id": DRILL, "path": NEW}},
        {"rename": {"id": SYNC_RU, "path": DRILL}},
        {"rename": {"id": NEW, "path": SYNC_RU}},
    )

    assert answer.errors == []
    assert (at_master(system, DRILL), at_master(system, SYNC_RU)) == (two, one)
    assert NEW not in paths_at_master(system)


async def test_operations_that_cancel_out_make_no_commit(system: System) -> None:
    head = system.github.head

    answer = await commit_documents(
        system,
        {"rename": {"id": DRILL, "path": NEW}},
        {"rename": {"id": NEW, "path": DRILL}},
    )

    assert answer.errors == []
    assert answer.data["commitDocuments"]["commit"]["oid"] == head == system.github.head


async def test_all_is_done_to_the_newest_content_when_others_were_first(
    system: System, clone: Clone
) -> None:
    clone.push({ROOM: at_master(system, ROOM).decode().replace("rank: 1", "rank: 8")})

    answer = await commit_documents(
        system,
        {"updateProject": {"id": ROOM, "status": "resting"}},
        {"delete": {"id": DRILL}},
    )

    assert answer.errors == []
    text = at_master(system, ROOM).decode()
    assert "rank: 8" in text
    assert "status: resting" in text


@pytest.mark.parametrize(
    ("operations", "code", "says"),
    [
        ([], "BAD_INPUT", "at least one"),
        ([{}], "BAD_INPUT", "Exactly one"),
        ([{"delete": {"id": DRILL}, "rename": {"id": DRILL, "path": NEW}}], "BAD_INPUT", "one"),
        ([{"delete": None}], "BAD_INPUT", "null"),
        ([None], "BAD_INPUT", "null"),
        ([{"delete": {"id": DRILL}}] * 101, "LIMIT_EXCEEDED", "100"),
        (
            [{"createSession": {"title": "T", "markdown": "x" * 1_900_000}}] * 5,
            "LIMIT_EXCEEDED",
            ",",
        ),
        ([{"explode": {"id": DRILL}}], "BAD_INPUT", "explode"),
    ],
)
async def test_what_is_no_list_of_operations_is_refused(
    system: System, operations: list[object], code: str, says: str
) -> None:
    head = system.github.head

    answer = await commit_documents(system, *operations)

    assert answer.code == code
    assert says.lower() in answer.errors[0]["message"].lower()
    assert system.github.head == head


async def test_a_hundred_documents_go_into_one_commit(system: System) -> None:
    before = system.requests

    answer = await commit_documents(
        system,
        *({"createSession": {"title": "Same", "markdown": f"{n}"}} for n in range(100)),
    )

    assert answer.errors == []
    documents = answer.data["commitDocuments"]["documents"]
    assert len({document["id"] for document in documents}) == 100
    assert system.requests - before == 1
    assert answer.data["commitDocuments"]["commit"]["oid"] == system.github.head


async def test_what_is_no_document_is_never_overwritten(system: System, github: GitHub) -> None:
    link, module = "autosaves/link.md", "autosaves/module.md"
    elsewhere = at_master(system, DRILL)
    push(
        github.path,
        {link: (SYMLINK, DRILL.encode()), module: (SUBMODULE, b"1" * 40)},
    )
    await system.sync()
    head = github.head

    for path in (link, module):
        for operation in (
            {"createSession": {"title": "T", "markdown": "x", "path": path}},
            {"rename": {"id": SYNC_RU, "path": path}},
        ):
            answer = await commit_documents(system, operation)
            assert answer.code == "CONFLICT"
            assert "no document" in answer.errors[0]["message"]
    assert github.head == head
    assert at_master(system, DRILL) == elsewhere


async def test_a_rename_into_another_collection_makes_it_another_kind(system: System) -> None:
    path = "autosaves/projects/drill.md"

    answer = await commit_documents(system, {"rename": {"id": DRILL, "path": path}})

    [document] = answer.data["commitDocuments"]["documents"]
    assert (document["__typename"], document["id"]) == ("Project", path)
    assert (await attempt(system, "updateSession", id=DRILL, status="x")).code == "NOT_FOUND"
    await assert_equals_master(
        system.parts.gateway.cache, system.github.path, system.parts.gateway.layout
    )
