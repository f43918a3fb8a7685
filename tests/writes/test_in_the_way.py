"""What lies beside a new document, on its way, or at its place without being a document."""

import asyncio

import asyncpg
import pytest

from sandbox.github import Fault
from tests.sync.oracle import SUBMODULE, SYMLINK, assert_equals_master
from tests.sync.oracle import commit as push
from tests.system import Answer, System
from tests.writes.asking import (
    DRILL,
    ROOM,
    at_master,
    attempt,
    cached_head,
    commit_documents,
    paths_at_master,
)

LINK = (SYMLINK, b"../.github")
MODULE = (SUBMODULE, b"1" * 40)
TITLED = "autosaves/2026/11/autosave_2026-11-28_note"
HOW = pytest.mark.parametrize("is_synced", [True, False], ids=["by the cache", "by the master"])


async def create(system: System, path: str) -> Answer:
    return await attempt(system, "createSession", title="T", markdown="x", path=path)


@HOW
@pytest.mark.parametrize(
    ("path", "other", "content"),
    [
        ("autosaves/Note.md", "autosaves/note.md", b"x"),
        ("autosaves/ЗАМЕТКА.md", "autosaves/заметка.md", b"x"),
        ("autosaves/й.md", "autosaves/и\u0306.md", b"x"),
        ("autosaves/note.md", "autosaves/note.MD", b"x"),
        ("autosaves/Deep/new.md", "autosaves/deep/picture.png", b"x"),
        ("autosaves/Deep/new.md", "autosaves/deep", MODULE),
        ("autosaves/2026/11.md/new.md", "autosaves/2026/11.md", b"x"),
        ("autosaves/x.md", "autosaves/x.md/y.png", b"x"),
        ("autosaves/link/new.md", "autosaves/link", LINK),
        ("autosaves/module/new.md", "autosaves/module", MODULE),
        ("autosaves/link.md", "autosaves/link.md", LINK),
        ("autosaves/module.md", "autosaves/module.md", MODULE),
    ],
)
async def test_nothing_is_created_or_moved_upon_or_beside_it(
    system: System, is_synced: bool, path: str, other: str, content: bytes | tuple[str, bytes]
) -> None:
    head = push(system.github.path, {other: content})
    if is_synced:
        await system.sync()
    before = system.requests

    created = await create(system, path)
    cost = system.requests - before
    moved = await commit_documents(system, {"rename": {"id": DRILL, "path": path}})

    for answer in (created, moved):
        assert answer.code == "CONFLICT"
        assert answer.errors[0]["extensions"]["path"] == path
        assert "Nothing was saved" in answer.errors[0]["message"]
    assert system.github.head == head
    if is_synced:
        assert cost == 1  # what lies around is in the cache


@HOW
@pytest.mark.parametrize("content", [b"x", LINK, MODULE])
@pytest.mark.parametrize("name", [f"{TITLED}.md", f"{TITLED.upper()}.md"])
async def test_a_path_that_the_gateway_chooses_makes_way(
    system: System, is_synced: bool, name: str, content: bytes | tuple[str, bytes]
) -> None:
    taken = f"{TITLED.rpartition('/')[0]}/{name.rpartition('/')[2]}"
    head = push(system.github.path, {taken: content})
    if is_synced:
        await system.sync()
    before = system.requests

    answer = await attempt(
        system, "createSession", title="Note", markdown="x", occurredAt="2026-11-28T10:00:00Z"
    )

    assert answer.errors == []
    assert answer.data["createSession"]["session"]["id"] == f"{TITLED}-2.md"
    assert {taken, f"{TITLED}-2.md"} <= paths_at_master(system)
    if is_synced:
        assert system.requests - before == 1
    assert system.github.head not in {head, None}
    await system.sync()
    await assert_equals_master(
        system.parts.gateway.cache, system.github.path, system.parts.gateway.layout
    )


@HOW
async def test_a_directory_that_is_none_keeps_out_what_the_gateway_would_choose(
    system: System, is_synced: bool
) -> None:
    """There is an end to looking for a free name."""
    head = push(system.github.path, {"autosaves/2031": LINK})
    if is_synced:
        await system.sync()

    answer = await attempt(
        system, "createSession", title="Note", markdown="x", occurredAt="2031-01-01T10:00:00Z"
    )

    assert answer.code == "CONFLICT"
    assert "beside autosaves/2031:" in answer.errors[0]["message"]
    assert system.github.head == head


async def test_a_document_that_has_a_double_can_still_be_changed_and_removed(
    system: System,
) -> None:
    """It was there before us, and who looks after it must be able to."""
    double = ROOM.replace("reading-room", "Reading-Room")
    push(system.github.path, {double: b"# Double\n"})
    await system.sync()

    changed = await attempt(system, "updateProject", id=ROOM, status="resting")
    removed = await attempt(system, "deleteProject", id=double)

    assert changed.errors == removed.errors == []
    assert ROOM in paths_at_master(system)
    assert double not in paths_at_master(system)


async def test_another_spelling_of_its_own_name_is_in_nobodys_way(system: System) -> None:
    louder = DRILL.replace("outage", "OUTAGE")

    answer = await commit_documents(system, {"rename": {"id": DRILL, "path": louder}})

    assert answer.errors == []
    assert louder in paths_at_master(system)
    assert DRILL not in paths_at_master(system)
    assert await cached_head(system) == system.github.head


async def test_of_two_at_once_the_second_is_refused_for_what_was_really_saved(
    system: System,
) -> None:
    answers = await asyncio.gather(
        create(system, "autosaves/note.md"), create(system, "autosaves/Note.md")
    )

    assert sorted(answer.code or "" for answer in answers) == ["", "CONFLICT"]
    saved = {"autosaves/note.md", "autosaves/Note.md"} & paths_at_master(system)
    assert len(saved) == 1


async def test_two_in_one_mutation_are_refused_together(system: System) -> None:
    head = system.github.head

    answer = await commit_documents(
        system,
        {"createSession": {"title": "T", "markdown": "x", "path": "autosaves/note.md"}},
        {"createSession": {"title": "T", "markdown": "x", "path": "autosaves/Note.md"}},
    )

    assert answer.code == "CONFLICT"
    assert answer.errors[0]["extensions"]["operation"] == 1
    assert system.github.head == head


@HOW
@pytest.mark.parametrize(
    ("path", "other", "content"),
    [
        ("autosaves/deep/Note.md", "autosaves/deep/note.md", b"x"),
        ("autosaves/deep/link/new.md", "autosaves/deep/link", LINK),
    ],
)
async def test_what_lies_around_a_later_operation_is_looked_at_as_well(
    system: System, is_synced: bool, path: str, other: str, content: bytes | tuple[str, bytes]
) -> None:
    """That is asked for when the directories above are known already."""
    head = push(system.github.path, {other: content})
    if is_synced:
        await system.sync()

    answer = await commit_documents(
        system,
        {"createSession": {"title": "T", "markdown": "x", "path": "autosaves/first.md"}},
        {"createSession": {"title": "T", "markdown": "x", "path": path}},
    )

    assert answer.code == "CONFLICT"
    assert answer.errors[0]["extensions"]["operation"] == 1
    assert system.github.head == head


@HOW
@pytest.mark.parametrize("double", ["Autosaves/picture.png", "AUTOSAVES", "autosaves/2026/11."])
async def test_a_directory_that_has_a_double_already_is_written_to_as_ever(
    system: System, is_synced: bool, double: str
) -> None:
    """Who pushes one must not keep everybody from saving."""
    push(system.github.path, {double: b"x"})
    if is_synced:
        await system.sync()

    created = await create(system, "autosaves/2026/11/new.md")
    titled = await attempt(system, "createSession", title="T", markdown="x")

    assert created.errors == titled.errors == []


@HOW
async def test_no_two_documents_of_one_name_lie_in_a_directory_and_its_double(
    system: System, is_synced: bool
) -> None:
    double = TITLED.replace("/11/", "/11./") + ".md"  # as Windows would have it
    push(
        system.github.path,
        {"autosaves/Deep/Sub/a.md": b"x", "autosaves/deep/b.md": b"x", double: b"x"},
    )
    if is_synced:
        await system.sync()

    named = await create(system, "autosaves/deep/sub/a.md")
    beside = await create(system, "autosaves/deep/a.md")
    chosen = await attempt(
        system, "createSession", title="Note", markdown="x", occurredAt="2026-11-28T10:00:00Z"
    )

    assert named.code == "CONFLICT"
    assert beside.errors == []
    assert chosen.data["createSession"]["session"]["id"] == f"{TITLED}-2.md"


@HOW
async def test_a_directory_is_renamed_by_its_last_document(system: System, is_synced: bool) -> None:
    push(system.github.path, {"autosaves/Notes/a.md": b"x", "autosaves/Notes/deep/b.md": b"x"})
    if is_synced:
        await system.sync()
    first = await commit_documents(
        system, {"rename": {"id": "autosaves/Notes/a.md", "path": "autosaves/notes/a.md"}}
    )
    both = await commit_documents(
        system,
        {"rename": {"id": "autosaves/Notes/deep/b.md", "path": "autosaves/b.md"}},
        {"rename": {"id": "autosaves/Notes/a.md", "path": "autosaves/notes/a.md"}},
    )

    assert first.code == "CONFLICT"  # there would be a directory beside it
    assert both.errors == []
    assert {"autosaves/b.md", "autosaves/notes/a.md"} <= paths_at_master(system)


@HOW
async def test_all_documents_of_a_directory_are_renamed_in_one_mutation(
    system: System, is_synced: bool
) -> None:
    push(system.github.path, {f"autosaves/Notes/{n}.md": b"x" for n in range(3)})
    if is_synced:
        await system.sync()

    answer = await commit_documents(
        system,
        *(
            {"rename": {"id": f"autosaves/Notes/{n}.md", "path": f"autosaves/notes/{n}.md"}}
            for n in range(3)
        ),
    )

    assert answer.errors == []
    assert "autosaves/notes/2.md" in paths_at_master(system)


@HOW
async def test_a_document_is_renamed_to_below_itself(system: System, is_synced: bool) -> None:
    push(system.github.path, {"autosaves/x.md": b"x"})
    if is_synced:
        await system.sync()

    answer = await commit_documents(
        system, {"rename": {"id": "autosaves/x.md", "path": "autosaves/x.md/y.md"}}
    )

    assert answer.errors == []
    assert "autosaves/x.md/y.md" in paths_at_master(system)
    await system.sync()
    await assert_equals_master(
        system.parts.gateway.cache, system.github.path, system.parts.gateway.layout
    )


@pytest.mark.parametrize(
    "damage",
    [
        r"UPDATE directories SET others = '\x00ff' WHERE path = 'autosaves'",
        "UPDATE directories SET others = convert_to('1 a', 'UTF8') WHERE path = 'autosaves'",
        "UPDATE sessions SET directory = 'autosaves' WHERE path LIKE '%drill%'",
        "UPDATE directories SET tree = '' WHERE path = 'autosaves/2026'",
        "DELETE FROM sessions WHERE path = 'autosaves/note.md'",
        "UPDATE sessions SET path = 'autosaves/t.md' WHERE path = 'autosaves/note.md'",
    ],
)
async def test_where_the_cache_is_damaged_the_master_is_looked_at(
    system: System, database_url: str, damage: str
) -> None:
    push(system.github.path, {"autosaves/note.md": b"x"})
    await system.sync()
    connection = await asyncpg.connect(database_url)
    assert await connection.execute(damage) != "UPDATE 0"
    await connection.close()

    refused = await create(system, "autosaves/Note.md")
    saved = await attempt(system, "createSession", title="T", markdown="x")

    assert refused.code == "CONFLICT"
    assert saved.errors == []


async def test_what_the_cache_has_lost_is_not_overwritten(
    system: System, database_url: str
) -> None:
    first = await attempt(system, "createSession", title="Note", markdown="first")
    path = first.data["createSession"]["session"]["id"]
    connection = await asyncpg.connect(database_url)
    assert await connection.execute("DELETE FROM sessions WHERE path = $1", path) == "DELETE 1"
    await connection.close()

    second = await attempt(system, "createSession", title="Note", markdown="second")

    assert second.errors == []
    assert second.data["createSession"]["session"]["id"] != path
    assert b"first" in at_master(system, path)


async def test_a_directory_that_is_gone_without_a_word_is_in_nobodys_way(system: System) -> None:
    push(system.github.path, {"autosaves/Deep/a.md": b"x"})
    await system.sync()
    lost = system.github.faults.add(Fault(kind="dropped", when="after", operation="mutation"))
    deleted = await commit_documents(system, {"delete": {"id": "autosaves/Deep/a.md"}})
    assert (deleted.errors, lost.struck) == ([], 1)
    await create(system, "autosaves/other.md")
    await system.sync()
    before = system.requests

    assert (await attempt(system, "createSession", title="T", markdown="x")).errors == []
    assert system.requests - before == 1
    assert (await create(system, "autosaves/deep/b.md")).errors == []
