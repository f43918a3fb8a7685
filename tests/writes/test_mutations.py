"""Every mutation: what it does to the document, to git and to the cache, and what it refuses."""

import pytest

from sandbox.github import GitHub
from tests.clone import Clone, git
from tests.sync.oracle import assert_equals_master
from tests.sync.oracle import commit as push
from tests.system import System, running
from tests.writes.asking import (
    DRILL,
    ROOM,
    SEEDS,
    SYNC_RU,
    at_master,
    attempt,
    cached,
    cached_head,
    last_message,
    paths_at_master,
    revision_of,
    subjects,
    write,
)

# Every one of them: one commit, one request, and the cache has it


@pytest.mark.parametrize(
    ("name", "input"),
    [
        ("createProject", {"name": "Сад", "markdown": "Грядки.\n", "status": "active", "rank": 3}),
        (
            "createPriority",
            {"title": "Repot", "markdown": "x", "dueOn": "2026-12-01", "project": ROOM, "rank": 1},
        ),
        ("createSession", {"title": "T", "markdown": "x", "project": ROOM, "tags": ["a", "b"]}),
        ("updateSession", {"id": DRILL, "status": "открыто", "tags": ["a"], "project": ROOM}),
        ("updateProject", {"id": ROOM, "name": "Reading hall", "rank": 7}),
        ("updatePriority", {"id": SEEDS, "title": "Seeds", "dueOn": "2027-02-01"}),
        ("deleteSession", {"id": DRILL}),
        ("deleteProject", {"id": ROOM}),
        ("deletePriority", {"id": SEEDS}),
    ],
)
async def test_a_mutation_is_one_request_one_commit_and_in_the_cache(
    system: System, name: str, input: dict[str, object]
) -> None:
    before, head = system.requests, system.github.head

    written = await write(system, name, **input)

    assert system.requests - before == 1
    commit = written["commit"]["oid"]
    assert git(system.github.path, "rev-parse", f"{commit}^").decode().strip() == head
    assert (commit, written["cache"]) == (system.github.head, "UPDATED")
    await assert_equals_master(
        system.parts.gateway.cache, system.github.path, system.parts.gateway.layout
    )
    if "id" in written:
        assert written["id"] not in paths_at_master(system)
        assert await cached(system, written["id"]) is None
        return
    [document] = [written[kind] for kind in ("session", "project", "priority") if kind in written]
    assert document["revision"] == revision_of(system, document["id"])
    assert document["markdown"].encode() == at_master(system, document["id"])
    assert document["provenance"] == {"source": "MASTER", "commit": commit, "stale": False}
    for field, value in input.items():
        if field not in {"id", "markdown", "project"}:
            assert document[field] == value
    if "project" in input:
        assert document["project"] == {"id": ROOM, "name": "Reading room"}


async def test_projects_and_priorities_go_where_their_names_say(system: System) -> None:
    project = await write(system, "createProject", name="Зимний сад", markdown="x")
    priority = await write(system, "createPriority", title="Buy a heater!", markdown="x")

    assert project["project"]["id"] == "autosaves/projects/zimnii-sad.md"
    assert priority["priority"]["id"] == "autosaves/priorities/buy-a-heater.md"


async def test_a_second_project_of_a_name_is_a_conflict_and_not_another_project(
    system: System,
) -> None:
    answer = await attempt(system, "createProject", name="Reading room", markdown="x")

    assert answer.code == "CONFLICT"
    assert answer.errors[0]["extensions"]["currentRevision"] == revision_of(system, ROOM)
    assert answer.errors[0]["extensions"]["currentTitle"] == "Reading room"


# Updates are patches


async def test_a_field_left_out_stays_and_null_clears_it(system: System) -> None:
    await write(system, "updatePriority", id=SEEDS, rank=None, status="done")

    assert at_master(system, SEEDS).decode() == (
        "---\ntitle: Order seeds\nstatus: done\nproject: autosaves/projects/kitchen-garden.md\n"
        "due_on: 2027-01-31\n---\n\nBefore everybody else does.\n"
    )


async def test_fields_of_a_document_without_front_matter_are_changed_where_they_stand(
    system: System,
) -> None:
    before = at_master(system, SYNC_RU).decode()

    written = await write(system, "updateSession", id=SYNC_RU, status="снова открыто")

    after = at_master(system, SYNC_RU).decode()
    assert written["session"]["status"] == "снова открыто"
    assert before.split("---", 1)[1] in after
    assert "# 📦 Первая синхронизация" in after


@pytest.mark.parametrize(
    "text",
    [
        "---\r\ntitle: 'Windows'\r\nunknown: [1,   2] # mine\r\n---\r\ntext\r\n",
        "---\nunknown:\n  deep: {a: 1}\nstatus: open\n---\nno newline at the end",
        "---\n# a comment\nstatus: open   # why\n---\n\n\n  text  \n\n",
        "# Заголовок 🌱\n\nText with trailing spaces   \n\t\n",
    ],
)
async def test_every_byte_that_was_not_asked_for_stays(
    system: System, github: GitHub, text: str
) -> None:
    path = "autosaves/bytes.md"
    push(github.path, {path: text.encode()})
    await system.sync()

    written = await write(system, "updateSession", id=path, agent="scribe")
    await write(system, "updateSession", id=path, agent=None)

    assert written["session"]["agent"] == "scribe"
    assert at_master(system, path).decode() == text


async def test_a_new_text_goes_below_the_front_matter_that_is_there(system: System) -> None:
    await write(system, "updateProject", id=ROOM, markdown="Only this.\n", status="resting")

    assert at_master(system, ROOM).decode() == (
        "---\ntitle: Reading room\nname: Reading room\nstatus: resting\nrank: 1\n---\nOnly this.\n"
    )


async def test_an_update_that_changes_nothing_makes_no_commit_and_says_so(system: System) -> None:
    head, before = system.github.head, system.requests

    written = await write(system, "updateProject", id=ROOM, status="active")

    assert system.github.head == head
    assert written["commit"]["oid"] == head
    assert written["cache"] == "UPDATED"
    assert written["project"]["revision"] == revision_of(system, ROOM)
    assert system.requests - before == 1  # what the cache says is no proof


async def test_an_update_without_any_field_changes_nothing(system: System) -> None:
    head = system.github.head

    assert (await write(system, "updateSession", id=DRILL))["commit"]["oid"] == head


async def test_a_project_may_be_cleared_and_one_that_is_nowhere_may_not_be_set(
    system: System,
) -> None:
    await write(system, "updatePriority", id=SEEDS, project=None)
    assert b"project" not in at_master(system, SEEDS)

    answer = await attempt(system, "updatePriority", id=SEEDS, project="autosaves/projects/no.md")

    assert answer.code == "BAD_INPUT"
    assert "autosaves/projects/no.md" in answer.errors[0]["message"]


@pytest.mark.parametrize(
    "project",
    [
        "autosaves/projects/no.md",
        "Reading room",
        SEEDS,
        "README.md",
        "",
        "a\0b",
        "\ud800",
        "x" * 9_000,
    ],
)
@pytest.mark.parametrize("name", ["createSession", "updateSession"])
async def test_a_project_that_is_none_is_refused(system: System, name: str, project: str) -> None:
    head = system.github.head
    input = {"title": "T", "markdown": "x"} if name == "createSession" else {"id": DRILL}

    answer = await attempt(system, name, **input, project=project)

    assert answer.code == "BAD_INPUT"
    assert system.github.head == head


async def test_a_project_that_others_made_just_now_may_be_named(
    system: System, clone: Clone
) -> None:
    clone.push({"autosaves/projects/new.md": "# New\n"})

    written = await write(system, "updateSession", id=DRILL, project="autosaves/projects/new.md")

    assert written["session"]["project"]["name"] == "New"


async def test_a_cold_document_is_changed_like_any_other(github: GitHub, database_url: str) -> None:
    old = "---\nstatus: open\nkeep: me\n---\n# Old\n"
    push(github.path, {"autosaves/old.md": old.encode()}, at=1_600_000_000)
    async with running(github, database_url) as system:
        await system.sync()
        row = await cached(system, "autosaves/old.md")
        assert row is not None

        written = await write(system, "updateSession", id="autosaves/old.md", status="done")

        assert written["cache"] == "UPDATED"
        assert at_master(system, "autosaves/old.md").decode() == old.replace("open", "done")


async def test_a_document_that_the_cache_does_not_know_yet_is_changed_all_the_same(
    system: System, clone: Clone
) -> None:
    clone.push({"autosaves/fresh.md": "---\nstatus: open\n---\n# Fresh\n"})

    written = await write(system, "updateSession", id="autosaves/fresh.md", status="done")

    assert written["session"]["title"] == "Fresh"
    assert at_master(system, "autosaves/fresh.md") == b"---\nstatus: done\n---\n# Fresh\n"


async def test_an_edit_of_another_field_that_came_first_is_kept(
    system: System, clone: Clone
) -> None:
    theirs = at_master(system, SEEDS).decode().replace("rank: 2", "rank: 9")
    clone.push({SEEDS: theirs})

    written = await write(system, "updatePriority", id=SEEDS, status="done")

    assert (written["priority"]["rank"], written["priority"]["status"]) == (9, "done")
    assert at_master(system, SEEDS).decode() == theirs.replace("open", "done")


# Guards


@pytest.mark.parametrize("name", ["updateProject", "deleteProject"])
async def test_a_guard_that_holds_lets_the_write_through(system: System, name: str) -> None:
    more = {"status": "resting"} if name == "updateProject" else {}
    written = await write(system, name, id=ROOM, expectedRevision=revision_of(system, ROOM), **more)

    assert written["commit"]["oid"] == system.github.head


@pytest.mark.parametrize("where", ["the cache knows", "the cache does not know yet"])
@pytest.mark.parametrize("name", ["updateProject", "deleteProject"])
async def test_a_guard_that_fails_is_a_conflict_and_nothing_is_saved(
    system: System, clone: Clone, name: str, where: str
) -> None:
    seen = revision_of(system, ROOM)
    head = clone.push({ROOM: "---\nname: Reading room\n---\n# Renamed by others\n"})
    if where == "the cache knows":
        await system.sync()

    more = {"status": "resting"} if name == "updateProject" else {}
    answer = await attempt(system, name, id=ROOM, expectedRevision=seen, **more)

    assert answer.code == "CONFLICT"
    told = answer.errors[0]["extensions"]
    assert told["currentRevision"] == revision_of(system, ROOM)
    assert told["currentTitle"] == "Renamed by others"
    assert told["path"] == ROOM
    assert "Read it again" in answer.errors[0]["message"]
    assert system.github.head == head


async def test_of_two_with_the_same_guard_the_second_is_told(system: System) -> None:
    seen = revision_of(system, ROOM)
    await write(system, "updateProject", id=ROOM, expectedRevision=seen, status="one")

    answer = await attempt(system, "updateProject", id=ROOM, expectedRevision=seen, status="two")

    assert answer.code == "CONFLICT"
    assert b"status: one" in at_master(system, ROOM)


@pytest.mark.parametrize("revision", ["", "abc", "g" * 40, "A" * 39, 7])
async def test_a_guard_that_is_no_revision_is_bad_input(system: System, revision: object) -> None:
    answer = await attempt(system, "updateProject", id=ROOM, expectedRevision=revision, rank=2)

    assert answer.code == "BAD_INPUT"


# What is not there


@pytest.mark.parametrize(
    "id",
    [
        "autosaves/nowhere.md",
        "autosaves/projects/kitchen-garden",
        "README.md",
        ROOM,  # a project is no session
        "",
        ".",
        "..",
        "/",
        "autosaves/../README.md",
        "autosaves/2026",
        f"{DRILL}/x.md",
        "autosaves/\ud800.md",
        "autosaves/a\0b.md",
        "autosaves/" + "x" * 5_000 + ".md",
        ".git/config",
        "-rf.md",
        "autosaves/📦.md",
    ],
)
@pytest.mark.parametrize("name", ["updateSession", "deleteSession"])
async def test_what_is_not_there_is_not_found(system: System, name: str, id: str) -> None:
    head = system.github.head

    answer = await attempt(system, name, id=id)

    assert answer.code == "NOT_FOUND"
    assert "Nothing was saved" in answer.errors[0]["message"]
    assert (system.github.head, await cached_head(system)) == (head, head)


async def test_what_others_deleted_meanwhile_is_not_found(system: System, clone: Clone) -> None:
    head = clone.push({DRILL: None})

    for name in ("updateSession", "deleteSession"):
        answer = await attempt(system, name, id=DRILL)

        assert answer.code == "NOT_FOUND"
        assert system.github.head == head


@pytest.mark.parametrize(
    "content", [b"\xff\xfe not utf-8", b"---\na: [\n---\nx", b"---\na: &x 1\n---\n"]
)
async def test_a_document_that_cannot_be_read_can_be_deleted_but_not_patched(
    system: System, github: GitHub, content: bytes
) -> None:
    push(github.path, {"autosaves/odd.md": content})
    await system.sync()

    answer = await attempt(system, "updateSession", id="autosaves/odd.md", status="x")
    assert answer.code == "BAD_INPUT"
    assert answer.errors[0]["extensions"]["path"] == "autosaves/odd.md"
    assert at_master(system, "autosaves/odd.md") == content

    await write(system, "deleteSession", id="autosaves/odd.md")
    assert "autosaves/odd.md" not in paths_at_master(system)


async def test_broken_front_matter_is_mended_by_a_text_that_brings_its_own(
    system: System, github: GitHub
) -> None:
    push(github.path, {"autosaves/odd.md": b"---\na: [\n---\nx"})
    await system.sync()

    mended = "---\na: []\n---\nx"
    written = await write(system, "updateSession", id="autosaves/odd.md", markdown=mended)

    assert written["session"]["metadata"] == {"a": []}
    assert at_master(system, "autosaves/odd.md").decode() == mended


# Bad input


@pytest.mark.parametrize(
    ("name", "input", "says"),
    [
        ("updateProject", {"markdown": None}, "markdown"),
        ("updateProject", {"markdown": ""}, "empty"),
        ("updateProject", {"markdown": "a\0b"}, "NUL"),
        ("updateProject", {"markdown": "\ud800"}, "surrogate"),
        ("updateProject", {"markdown": "x" * 3_000_000}, "2,000,000"),
        ("updateProject", {"markdown": "---\na: &a [x]\nb: *a\n---\n"}, "front matter"),
        ("updateProject", {"name": ""}, "name"),
        ("updateProject", {"title": "a\nb"}, "title"),
        ("updateProject", {"status": "  "}, "blank"),
        ("updateProject", {"message": "x" * 20_000}, "message"),
        ("updateProject", {"message": "Fine\n\nAnnoris-Write: forged"}, "Annoris-"),
        ("updateProject", {"idempotencyKey": ""}, "idempotencyKey"),
        ("updateProject", {"idempotencyKey": "x" * 1_000}, "idempotencyKey"),
        ("updateProject", {"rank": 2**40}, "Int"),
        ("updateProject", {"rank": "1"}, "Int"),
        ("updatePriority", {"dueOn": "tomorrow"}, "Date"),
        ("updateProject", {"unknown": "field"}, "unknown"),
    ],
)
async def test_bad_input_is_refused_in_words_and_nothing_is_saved(
    system: System, name: str, input: dict[str, object], says: str
) -> None:
    head = system.github.head
    id = ROOM if name == "updateProject" else SEEDS

    answer = await attempt(system, name, **({"id": id, "rank": 5} | input))

    assert answer.code == "BAD_INPUT"
    assert says in answer.errors[0]["message"]
    assert (system.github.head, await cached_head(system)) == (head, head)


async def test_a_document_must_not_grow_beyond_its_limit(system: System, github: GitHub) -> None:
    path = "autosaves/big.md"
    push(github.path, {path: b"x" * 1_999_990})
    await system.sync()

    answer = await attempt(system, "updateSession", id=path, status="a" * 100)

    assert answer.code == "BAD_INPUT"
    assert "2,000,000" in answer.errors[0]["message"]


# Commit messages


async def test_a_commit_says_what_was_done_unless_the_caller_says_it(system: System) -> None:
    await write(system, "updateProject", id=ROOM, status="x", markdown="New.\n")
    await write(system, "deletePriority", id=SEEDS)
    await write(system, "updateProject", id=ROOM, rank=4, message="Room moves up\n\nIt is full.")

    assert subjects(system)[:3] == [
        "Room moves up",
        f"Delete {SEEDS}",
        f"Update {ROOM}: status, text",
    ]
    assert last_message(system).startswith("Room moves up\n\nIt is full.\n\nAnnoris-Write: ")


async def test_an_agent_with_an_address_is_named_as_co_author(
    github: GitHub, database_url: str
) -> None:
    addresses = {"AGENT_ADDRESSES": "scribe=scribe@agents.example, Other=other@agents.example"}
    async with running(github, database_url, addresses) as system:
        await system.sync()
        await write(system, "createSession", title="T", markdown="x", agent="Scribe")
        assert last_message(system).splitlines()[-1] == (
            "Co-authored-by: Scribe <scribe@agents.example>"
        )

        await write(system, "createSession", title="U", markdown="x", agent="unknown")
        assert "Co-authored-by" not in last_message(system)
