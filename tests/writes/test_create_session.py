"""createSession: GitHub first, then the cache; and what is refused is saved nowhere."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from api.cache.rows import WITH_BODIES
from sandbox.github import Fault, GitHub, Limits, create_repository
from sandbox.github.faults import Kind
from tests.clone import Clone, git
from tests.system import System, running
from tests.writes.asking import cached_head

CREATE = """
mutation Create($input: CreateSessionInput!) {
  createSession(input: $input) {
    session { id revision title markdown occurredAt status agent tags project { name }
              provenance { source commit } }
    commit { oid committedAt }
    cache
  }
}
"""
READ = """
query Read($id: ID!, $atLeast: GitObjectID) {
  session(id: $id, atLeast: $atLeast) { revision markdown provenance { source commit fallback } }
}
"""


async def test_a_session_is_saved_in_git_and_in_the_cache_with_the_same_oid(
    system: System,
) -> None:
    before = system.requests

    answer = await system.ask(
        CREATE,
        input={
            "title": "Проверка записи",
            "markdown": "# Привет\n\nТекст 🌱\n",
            "occurredAt": "2026-11-21T10:00:00+03:00",
            "status": "done",
            "agent": "scribe",
            "tags": ["проверка", "git"],
            "project": "autosaves/projects/reading-room.md",
        },
    )

    assert answer.errors == []
    saved = answer.data["createSession"]
    session, commit = saved["session"], saved["commit"]["oid"]
    assert session["id"] == "autosaves/2026/11/autosave_2026-11-21_proverka-zapisi.md"
    assert session["title"] == "Проверка записи"
    assert session["occurredAt"] == "2026-11-21T07:00:00Z"
    assert session["tags"] == ["проверка", "git"]
    assert session["project"] == {"name": "Reading room"}
    assert saved["cache"] == "UPDATED"
    path = f"{commit}:{session['id']}"
    assert git(system.github.path, "show", path).decode() == session["markdown"]
    assert git(system.github.path, "rev-parse", path).decode().strip() == session["revision"]
    async with system.parts.gateway.cache.snapshot() as snapshot:
        row = (await snapshot.documents([session["id"]], WITH_BODIES))[session["id"]]
    assert (row.document.revision, row.markdown) == (session["revision"], session["markdown"])
    assert system.requests - before == 1


async def test_the_commit_says_what_was_done_and_by_which_write(system: System) -> None:
    await system.ask(
        CREATE, input={"title": "T", "markdown": "text", "message": "Save T\n\nBecause."}
    )

    subject, _, body = git(system.github.path, "log", "-1", "--format=%B").decode().partition("\n")
    assert subject == "Save T"
    assert body.strip().startswith("Because.\n\nAnnoris-Write: ")


async def test_a_message_of_spaces_is_no_message(system: System) -> None:
    await system.ask(CREATE, input=GOOD | {"message": " \n "})

    subject = git(system.github.path, "log", "-1", "--format=%s").decode()
    assert subject.startswith("Create autosaves/")


async def test_a_sync_after_it_changes_nothing(system: System) -> None:
    await system.ask(CREATE, input={"title": "T", "markdown": "text"})

    report = await system.parts.reconciler.run()

    assert (report.outcome, report.requests) == ("unchanged", 1)


async def test_two_sessions_saved_in_one_operation_are_each_read_from_the_cache(
    system: System,
) -> None:
    project = "autosaves/projects/reading-room.md"
    before = system.requests

    answer = await system.ask(
        """mutation Two($a: CreateSessionInput!, $b: CreateSessionInput!) {
          a: createSession(input: $a) { ...Saved }  b: createSession(input: $b) { ...Saved }
        }
        fragment Saved on SessionPayload {
          session { project { provenance { source fallback commit } } } commit { oid } }""",
        a={"title": "A", "markdown": "a", "project": project},
        b={"title": "B", "markdown": "b", "project": project},
    )

    for saved in answer.data.values():
        assert saved["session"]["project"]["provenance"] == {
            "source": "CACHE",
            "fallback": None,
            "commit": saved["commit"]["oid"],
        }
    assert system.requests - before == 2


async def test_what_was_written_is_read_at_once_with_at_least(system: System) -> None:
    saved = (await system.ask(CREATE, input={"title": "T", "markdown": "x"})).data["createSession"]

    answer = await system.ask(READ, id=saved["session"]["id"], atLeast=saved["commit"]["oid"])

    assert answer.data["session"]["revision"] == saved["session"]["revision"]
    assert answer.data["session"]["provenance"]["source"] == "CACHE"


@pytest.mark.parametrize(
    ("input", "told"),
    [
        ({"markdown": "---\ndate: 2026-01-05\n---\nx"}, "2026-01-05T00:00:00Z"),
        ({"markdown": "# T\n\n**Date:** 2024-03-05\n\nx"}, "2024-03-05T00:00:00Z"),
        (
            {"markdown": "x", "path": "autosaves/autosave_2025-10-20_slug.md"},
            "2025-10-20T00:00:00Z",
        ),
        (
            {"markdown": "---\ndate: 2026-01-05\n---\nx", "occurredAt": "2026-02-03T00:00:00Z"},
            "2026-02-03T00:00:00Z",
        ),
    ],
)
async def test_a_session_happened_when_its_text_says_so_and_not_now(
    system: System, input: dict[str, object], told: str
) -> None:
    saved = (await system.ask(CREATE, input={"title": "T"} | input)).data["createSession"]

    assert saved["session"]["occurredAt"] == told
    assert told[:10] in saved["session"]["id"] or "path" in input


async def test_two_sessions_of_one_day_and_title_are_both_saved(system: System) -> None:
    document = {"title": "Same", "markdown": "x", "occurredAt": "2026-11-21T10:00:00Z"}

    answers = await asyncio.gather(*(system.ask(CREATE, input=document) for _ in range(3)))

    assert {a.data["createSession"]["session"]["id"] for a in answers} == {
        "autosaves/2026/11/autosave_2026-11-21_same.md",
        "autosaves/2026/11/autosave_2026-11-21_same-2.md",
        "autosaves/2026/11/autosave_2026-11-21_same-3.md",
    }


async def test_a_commit_of_somebody_else_is_built_upon_not_overwritten(
    system: System, clone: Clone
) -> None:
    theirs = clone.push({"autosaves/other.md": "# Other\n"})

    saved = (await system.ask(CREATE, input={"title": "T", "markdown": "x"})).data["createSession"]

    assert git(system.github.path, "rev-parse", f"{saved['commit']['oid']}^").decode().strip() == (
        theirs
    )
    assert saved["cache"] == "DEFERRED"


@pytest.mark.parametrize("kind", ["bad_gateway", "dropped", "something_wrong"])
async def test_a_lost_answer_is_looked_up_and_nothing_is_saved_twice(
    system: System, kind: Kind
) -> None:
    system.github.faults.add(Fault(kind=kind, when="after", operation="mutation"))

    answer = await system.ask(CREATE, input={"title": "Once", "markdown": "x"})

    assert answer.errors == []
    assert git(system.github.path, "log", "--format=%s").decode().count("Create autosaves") == 1


GOOD = {"title": "T", "markdown": "x"}
BOMB = "---\na: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n---\ntext\n"


@pytest.mark.parametrize(
    ("input", "says"),
    [
        (GOOD | {"title": ""}, "title"),
        (GOOD | {"title": "  "}, "title"),
        (GOOD | {"title": "two\nlines"}, "title"),
        (GOOD | {"title": "x" * 100_000}, "title"),
        (GOOD | {"title": "a\rb"}, "title"),
        (GOOD | {"title": "a\0b"}, "NUL"),
        (GOOD | {"title": "\ud800"}, "surrogate"),
        (GOOD | {"message": "a\0b"}, "message"),
        (GOOD | {"message": "\ud800"}, "message"),
        (GOOD | {"message": "x" * 100_000}, "message"),
        (GOOD | {"status": " "}, "blank"),
        (GOOD | {"tags": [""]}, "blank"),
        (GOOD | {"markdown": ""}, "empty"),
        (GOOD | {"markdown": "a\0b"}, "NUL"),
        (GOOD | {"markdown": "x" * 10_000_000}, "2,000,000"),
        (GOOD | {"markdown": BOMB}, "front matter"),
        (GOOD | {"markdown": "\ud800"}, "surrogate"),
        (GOOD | {"path": "elsewhere/x.md"}, "directories"),
        (GOOD | {"path": "autosaves/projects/x.md"}, "directories"),
        (GOOD | {"path": "autosaves/../x.md"}, ".."),
        (GOOD | {"path": "/autosaves/x.md"}, "slash"),
        (GOOD | {"path": "autosaves/.git/x.md"}, "git"),
        (GOOD | {"path": ".github/workflows/x.yml"}, ".github"),
        (GOOD | {"path": "autosaves/x.txt"}, ".md"),
        (GOOD | {"path": "autosaves/a\0.md"}, "character"),
        (GOOD | {"path": "autosaves/" + "x" * 300 + ".md"}, "bytes"),
        (GOOD | {"project": "autosaves/projects/nowhere.md"}, "no project"),
        (GOOD | {"project": "not a path"}, "no project"),
    ],
)
async def test_bad_input_is_refused_in_words_and_nothing_is_saved(
    system: System, input: dict[str, object], says: str
) -> None:
    head = system.github.head

    answer = await system.ask(CREATE, input=input)

    assert answer.code == "BAD_INPUT"
    assert says in answer.errors[0]["message"]
    assert system.github.head == head
    async with system.parts.gateway.cache.snapshot() as snapshot:
        assert snapshot.head is not None
        assert snapshot.head.commit == head


async def test_an_existing_path_is_a_conflict_that_names_the_revision(system: System) -> None:
    path = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
    head = system.github.head

    answer = await system.ask(CREATE, input=GOOD | {"path": path})

    revision = git(system.github.path, "rev-parse", f"main:{path}").decode().strip()
    assert answer.code == "CONFLICT"
    assert answer.errors[0]["extensions"]["currentRevision"] == revision
    assert system.github.head == head


@pytest.mark.parametrize(
    "variables",
    [
        {"input": {"title": "T"}},
        {"input": GOOD | {"tags": [1]}},
        {"input": GOOD | {"occurredAt": "yesterday"}},
        {"input": GOOD | {"occurredAt": "2026-11-21T10:00:00"}},
        {"input": None},
        {},
    ],
)
async def test_input_of_a_wrong_type_is_refused_before_anything_runs(
    system: System, variables: dict[str, object]
) -> None:
    answer = await system.ask(CREATE, **variables)

    assert answer.code == "BAD_INPUT"
    assert answer.data is None


# What GitHub refuses


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("bad_credentials", "FORBIDDEN"),
        ("forbidden", "FORBIDDEN"),
        ("saml", "FORBIDDEN"),
        ("branch_protection", "FORBIDDEN"),
        ("ruleset", "FORBIDDEN"),
        ("repository_archived", "FORBIDDEN"),
        ("rate_limit", "RATE_LIMITED"),
        ("secondary_rate_limit", "RATE_LIMITED"),
    ],
)
async def test_what_github_refuses_is_saved_nowhere_and_the_error_says_so(
    system: System, kind: Kind, code: str
) -> None:
    head = system.github.head
    system.github.faults.add(Fault(kind=kind, count=None))

    answer = await system.ask(CREATE, input=GOOD)

    assert answer.code == code
    assert "Nothing was saved" in answer.errors[0]["message"]
    assert ("retryAfter" in answer.errors[0]["extensions"]) is (code == "RATE_LIMITED")
    assert system.github.head == head
    assert (await cached_head(system)) == head


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("cache", ["filled", "empty"])
async def test_a_mute_github_is_waited_for_within_the_time_of_a_write(
    github: GitHub, database_url: str, cache: str
) -> None:
    if cache == "empty":
        connection = await asyncpg.connect(database_url)
        await connection.execute("DELETE FROM head")
        await connection.close()
    environment = {"WRITE_TIMEOUT_SECONDS": "3", "MASTER_TIMEOUT_SECONDS": "300"}
    async with running(github, database_url, environment) as gateway:
        github.faults.add(Fault(kind="hang", count=None))

        answer = await gateway.ask(CREATE, input=GOOD)

    # Sent, it may have landed; not even asked where to put it, it cannot have.
    assert answer.code == ("OUTCOME_UNKNOWN" if cache == "filled" else "MASTER_UNAVAILABLE")


async def test_two_gateways_that_save_at_once_lose_nothing(
    system: System, github: GitHub, database_url: str
) -> None:
    async with running(github, database_url) as other:
        answers = await asyncio.gather(
            *(one.ask(CREATE, input=GOOD) for one in (system, other) for _ in range(4))
        )

    assert [answer.errors for answer in answers] == [[]] * 8
    saved = {answer.data["createSession"]["session"]["id"] for answer in answers}
    listed = git(github.path, "ls-tree", "-r", "--name-only", "main").decode().splitlines()
    assert len(saved) == 8
    assert saved <= set(listed)


async def test_a_caller_who_goes_away_does_not_stop_the_commit(
    system: System, github: GitHub
) -> None:
    slow = github.faults.add(Fault(kind="latency", operation="mutation", ms=300))
    asking = asyncio.create_task(system.ask(CREATE, input=GOOD | {"title": "Saved all the same"}))
    await slow.wait_until_struck()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    for _ in range(1000):
        if await cached_head(system) == github.head != "" and "saved-all-the-same" in (
            git(github.path, "ls-tree", "-r", "--name-only", "main").decode()
        ):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it was not saved")


async def test_the_first_session_of_all_makes_its_directories(
    tmp_path: Path, database_url: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "README.md").write_text("# Nothing yet\n")
    create_repository(tmp_path / "bare.git", folder)
    async with (
        GitHub(tmp_path / "bare.git", limits=Limits.off()) as github,
        running(github, database_url) as system,
    ):
        await system.sync()

        saved = (await system.ask(CREATE, input=GOOD)).data["createSession"]

        assert saved["cache"] == "UPDATED"
        assert (await system.ask("{ sessions { totalCount } }")).data["sessions"] == {
            "totalCount": 1
        }
        assert (await system.parts.reconciler.run()).outcome == "unchanged"


async def test_a_repository_without_a_commit_is_said_to_have_no_branch(
    tmp_path: Path, database_url: str
) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "empty.git")
    async with (
        GitHub(tmp_path / "empty.git", limits=Limits.off()) as github,
        running(github, database_url) as system,
    ):
        for query in (
            "{ sessions { totalCount } }",
            "{ sessions(consistency: MASTER) { totalCount } }",
        ):
            answer = await system.ask(query)
            assert answer.code == "MASTER_UNAVAILABLE"
            assert "first commit" in answer.errors[0]["message"]
        answer = await system.ask(CREATE, input=GOOD)

    assert answer.code == "MASTER_UNAVAILABLE"
    assert "first commit" in answer.errors[0]["message"]
    assert "Nothing was saved" in answer.errors[0]["message"]
