"""Reads: the same documents at every level, true for the commit that they name."""

import base64
import json

import pytest

from sandbox.github import GitHub
from tests.clone import Clone, git
from tests.system import System, running

LEVELS = ["CACHE", "MASTER", "VERIFIED"]
DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
GARDEN = "autosaves/projects/kitchen-garden.md"

ONE = """
query One($id: ID!, $consistency: Consistency! = CACHE, $atLeast: GitObjectID) {
  node(id: $id, consistency: $consistency) { id ... on Document { revision } }
  session(id: $id, consistency: $consistency, atLeast: $atLeast) {
    id path revision title markdown body excerpt metadata bytes occurredAt status priority
    project { id name }
    provenance { source commit stale fallback verification }
  }
}
"""
PAGE = """
query Page($first: Int, $after: String, $last: Int, $before: String, $where: SessionFilter,
           $orderBy: SessionOrder! = OCCURRED_AT_DESC, $consistency: Consistency! = CACHE) {
  sessions(first: $first, after: $after, last: $last, before: $before, where: $where,
           orderBy: $orderBy, consistency: $consistency) {
    totalCount
    edges { cursor node { id } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    provenance { source commit verification }
  }
}
"""


def paths_at(system: System, commit: str) -> list[str]:
    """The sessions that git names at a commit."""
    listed = git(system.github.path, "ls-tree", "-r", "-z", "--name-only", commit, "autosaves")
    return [
        path
        for path in listed.decode().split("\0")
        if path.endswith(".md") and not path.startswith(("autosaves/pro", "autosaves/pri"))
    ]


@pytest.mark.parametrize("level", LEVELS)
async def test_every_session_is_read_byte_for_byte(system: System, level: str) -> None:
    for path in paths_at(system, "main"):
        answer = await system.ask(ONE, id=path, consistency=level)

        assert answer.errors == []
        session = answer.data["session"]
        told = session["provenance"]
        assert session["markdown"].encode() == git(
            system.github.path, "show", f"{told['commit']}:{path}"
        )
        assert answer.data["node"] == {"id": path, "revision": session["revision"]}
        assert told["verification"] == ("MATCHED" if level == "VERIFIED" else None)


@pytest.mark.parametrize("level", LEVELS)
async def test_what_is_not_there_is_null_without_an_error(system: System, level: str) -> None:
    for id in (
        "autosaves/nothing.md",
        "README.md",
        "",
        "../x.md",
        "autosaves",
        GARDEN,
        "autosaves/a\0.md",
        "autosaves/\ud800.md",
    ):
        answer = await system.ask(ONE, id=id, consistency=level)

        assert (answer.errors, answer.data["session"]) == ([], None)


@pytest.mark.parametrize("order", ["OCCURRED_AT_DESC", "OCCURRED_AT_ASC", "PATH_ASC"])
async def test_lists_have_the_same_members_order_and_cursors_at_every_level(
    system: System, order: str
) -> None:
    answers = [
        (await system.ask(PAGE, first=4, orderBy=order, consistency=level)).data["sessions"]
        for level in LEVELS
    ]

    assert len(answers[0]["edges"]) == 4
    assert answers[0]["totalCount"] == len(paths_at(system, "main"))
    for other in answers[1:]:
        assert other["edges"] == answers[0]["edges"]
        assert other["pageInfo"] == answers[0]["pageInfo"]
        assert other["totalCount"] == answers[0]["totalCount"]


async def test_paging_yields_everything_once_though_the_level_changes_midway(
    system: System,
) -> None:
    seen, after = [], None
    for level in LEVELS * 2:
        page = (await system.ask(PAGE, first=1, after=after, consistency=level)).data["sessions"]
        seen += [edge["node"]["id"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]

    assert sorted(seen) == paths_at(system, "main")
    assert page["pageInfo"]["hasNextPage"] is False


async def test_the_last_page_is_read_from_the_end(system: System) -> None:
    everything = (await system.ask(PAGE, first=100)).data["sessions"]["edges"]

    last = (await system.ask(PAGE, last=2)).data["sessions"]
    before = (await system.ask(PAGE, last=2, before=last["pageInfo"]["startCursor"])).data

    assert last["edges"] == everything[-2:]
    assert before["sessions"]["edges"] == everything[-4:-2]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"status": "done"}, 2),
        ({"priority": "high"}, 2),
        ({"agent": "scribe"}, 1),
        ({"tag": "garden"}, 2),
        ({"titleContains": "СИНХРОН"}, 1),
        ({"titleContains": "100%"}, 0),
        ({"project": "autosaves/projects/reading-room.md"}, 3),
        ({"project": GARDEN}, 2),
        ({"project": "autosaves/projects/nowhere.md"}, 0),
        ({"from": "2026-11-17T00:00:00Z", "to": "2026-11-18T00:00:00+00:00"}, 1),
        ({"status": "done", "tag": "garden"}, 0),
        ({}, 6),
    ],
)
async def test_filters_find_the_same_at_every_level(
    system: System, level: str, where: dict[str, str], found: int
) -> None:
    answer = await system.ask(PAGE, where=where, consistency=level)

    assert answer.data["sessions"]["totalCount"] == found
    assert len(answer.data["sessions"]["edges"]) == found


def cursor_of(*parts: object) -> str:
    """A cursor as the gateway would write it, of parts that it would not."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "arguments",
    [
        {"first": -1},
        {"first": 101},
        {"first": 1, "last": 1},
        {"after": "nonsense"},
        {"after": ""},
        {"after": "W10"},
        {"first": 1, "after": "💥"},
        {"first": "1"},
        {"where": {"status": "a\0b"}},
        {"where": {"titleContains": "\ud800"}},
        {"after": cursor_of("occurred", "2026-01-01T00:00:00+00:00", "autosaves/a\0.md")},
        {"after": cursor_of("occurred", "2026-01-01T00:00:00+00:00", "autosaves/\ud800.md")},
        {"after": cursor_of("occurred", "0001-01-01T00:00:00+14:00", "autosaves/a.md")},
        {"after": cursor_of("path", "", "autosaves/a.md")},
        {"after": cursor_of("occurred", 1, None)},
        {"where": {"from": "2026-11-17"}},
        {"where": {"unknown": 1}},
        {"orderBy": "RANDOM"},
    ],
)
async def test_a_page_that_makes_no_sense_is_bad_input(
    system: System, arguments: dict[str, object]
) -> None:
    assert (await system.ask(PAGE, **arguments)).code == "BAD_INPUT"


async def test_projects_and_priorities_come_by_rank_and_know_what_belongs_to_them(
    system: System,
) -> None:
    answer = await system.ask(
        """{
          projects { totalCount nodes { name rank sessions(first: 1) {
            totalCount nodes { title project { name } } } } }
          priorities { totalCount nodes { title rank dueOn project { name } } }
        }"""
    )

    assert answer.data["projects"] == {
        "totalCount": 2,
        "nodes": [
            {
                "name": "Reading room",
                "rank": 1,
                "sessions": {
                    "totalCount": 3,
                    "nodes": [
                        {
                            "title": "The cache answers in milliseconds",
                            "project": {"name": "Reading room"},
                        }
                    ],
                },
            },
            {
                "name": "Kitchen garden",
                "rank": 2,
                "sessions": {
                    "totalCount": 2,
                    "nodes": [
                        {"title": "Seed list for spring", "project": {"name": "Kitchen garden"}}
                    ],
                },
            },
        ],
    }
    assert [p["dueOn"] for p in answer.data["priorities"]["nodes"]] == ["2026-12-15", "2027-01-31"]
    assert answer.data["priorities"]["nodes"][1]["project"] == {"name": "Kitchen garden"}


# What a read costs


@pytest.mark.parametrize("level", LEVELS)
async def test_a_list_with_everything_on_it_costs_the_same_however_long_it_is(
    system: System, clone: Clone, level: str
) -> None:
    query = """
    query Costly($level: Consistency!) {
      sessions(first: 100, consistency: $level) {
        totalCount nodes { markdown project { name sessions { totalCount nodes { title } } } }
      }
      projects(consistency: $level) { nodes { sessions { totalCount nodes { markdown } } } }
    }"""

    async def cost() -> tuple[int, int]:
        await system.ask(query, level=level)  # so that trees and blobs are known
        requests, statements = system.requests, system.statements
        anew = f"{query} # not given again"
        assert (await system.ask(anew, level=level)).errors == []
        return system.requests - requests, system.statements - statements

    before = await cost()
    clone.push(
        {f"autosaves/2026/11/{i}.md": f"# S{i}\n\n**Project:** P{i % 9}\n" for i in range(60)}
        | {f"autosaves/projects/p{i}.md": f"# P{i}\n" for i in range(9)}
    )
    await system.sync()

    assert await cost() == before
    assert before[0] == (0 if level == "CACHE" else 1)


@pytest.mark.parametrize(("level", "requests"), [("CACHE", 0), ("MASTER", 1), ("VERIFIED", 1)])
async def test_one_document_costs_one_request_at_most(
    system: System, level: str, requests: int
) -> None:
    before = system.requests

    answer = await system.ask(
        "query One($id: ID!, $level: Consistency!) "
        "{ session(id: $id, consistency: $level) { markdown } }",
        id=DRILL,
        level=level,
    )

    assert answer.errors == []
    assert system.requests - before == requests


# What changed behind the cache's back


async def test_a_push_is_seen_by_master_and_verified_before_any_sync(
    system: System, clone: Clone
) -> None:
    pushed = clone.push({DRILL: "# Rewritten\n"})

    cached = (await system.ask(ONE, id=DRILL)).data["session"]
    fresh = (await system.ask(ONE, id=DRILL, consistency="MASTER")).data["session"]
    verified = (await system.ask(ONE, id=DRILL, consistency="VERIFIED")).data["session"]
    after = (await system.ask(ONE, id=DRILL)).data["session"]

    assert (cached["title"], cached["provenance"]["source"]) == ("Outage drill", "CACHE")
    assert cached["provenance"]["commit"] != pushed
    assert (fresh["title"], fresh["provenance"]["commit"]) == ("Rewritten", pushed)
    assert verified["title"] == "Rewritten"
    assert verified["provenance"]["verification"] == "REPAIRED"
    assert (after["title"], after["provenance"]["commit"]) == ("Rewritten", pushed)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE sessions SET markdown = markdown || 'x' WHERE path = $1",
        "UPDATE sessions SET revision = repeat('0', 40) WHERE path = $1",
        "UPDATE sessions SET title = 'Forged' WHERE path = $1",
        "DELETE FROM sessions WHERE path = $1",
    ],
)
async def test_a_damaged_row_is_repaired_by_the_verified_read_that_meets_it(
    system: System, database_url: str, damage: str
) -> None:
    import asyncpg  # noqa: PLC0415

    connection = await asyncpg.connect(database_url)
    await connection.execute(damage, DRILL)
    await connection.close()

    first = (await system.ask(ONE, id=DRILL, consistency="VERIFIED")).data["session"]
    second = (await system.ask(ONE, id=DRILL, consistency="VERIFIED")).data["session"]
    cached = (await system.ask(ONE, id=DRILL)).data["session"]

    assert first["title"] == second["title"] == cached["title"] == "Outage drill"
    assert first["markdown"].encode() == git(system.github.path, "show", f"main:{DRILL}")
    assert first["provenance"]["verification"] == "REPAIRED"
    assert second["provenance"]["verification"] == "MATCHED"
    assert cached["provenance"]["source"] == "CACHE"


async def test_a_verified_list_finds_rows_that_should_not_be_there(
    system: System, database_url: str
) -> None:
    import asyncpg  # noqa: PLC0415

    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE sessions SET path = 'autosaves/moved.md' WHERE path = $1", DRILL
    )
    await connection.close()

    page = (await system.ask(PAGE, consistency="VERIFIED")).data["sessions"]

    assert sorted(edge["node"]["id"] for edge in page["edges"]) == paths_at(system, "main")
    assert page["provenance"]["verification"] == "REPAIRED"
    assert (await system.ask(PAGE)).data["sessions"]["edges"] == page["edges"]


async def test_at_least_a_commit_that_the_cache_does_not_have_is_asked_of_the_master(
    system: System, clone: Clone
) -> None:
    pushed = clone.push({DRILL: "# Rewritten\n"})
    clone.push({"autosaves/later.md": "# Later\n"})

    session = (await system.ask(ONE, id=DRILL, atLeast=pushed)).data["session"]

    assert session["title"] == "Rewritten"
    assert session["provenance"]["fallback"] == "BEHIND_AT_LEAST"


async def test_at_least_a_commit_that_nobody_knows_is_bad_input(system: System) -> None:
    answer = await system.ask(ONE, id=DRILL, atLeast="0" * 40)

    assert answer.code == "BAD_INPUT"
    assert "not in the history" in answer.errors[0]["message"]


async def test_what_was_too_large_is_read_as_soon_as_the_limit_allows_it(
    github: GitHub, database_url: str, clone: Clone
) -> None:
    """What is kept of a document was read with a limit; another limit is another cache."""
    clone.push({"autosaves/large.md": f"# Large\n{'x' * 5_000}\n"})
    query = """{ session(id: "autosaves/large.md") { title markdown unreadable
        provenance { source } } }"""
    for limit, length in (("1000", 0), ("10000", 5_009), ("1000", 0)):
        async with running(github, database_url, {"MAX_DOCUMENT_BYTES": limit}) as gateway:
            await gateway.sync()
            session = (await gateway.ask(query)).data["session"]
            assert session["provenance"]["source"] == "CACHE"
            assert len(session["markdown"]) == length
            assert bool(session["unreadable"]) is not bool(length)


async def test_nothing_internal_is_in_an_unexpected_error(
    system: System, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("postgresql://user:secret@host/db")

    monkeypatch.setattr("api.graphql.types.excerpt", fail)

    answer = await system.ask(ONE, id=DRILL)

    assert answer.code == "INTERNAL"
    assert "secret" not in str(answer.errors)
    assert answer.errors[0]["extensions"]["reference"] in caplog.text
