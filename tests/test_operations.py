"""One operation: whatever happens in the middle of it, its answer is true for one commit."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack

import asyncpg
import pytest

from api.cache.database import CacheUnavailable
from api.cache.rows import WITHOUT_BODIES, Columns
from api.cache.snapshot import Glance
from api.documents import Collection
from api.documents.listing import Indexed, Listing, Order, Page, Where, Window
from api.gateway.gateway import Operation
from api.gateway.provenance import Consistency, FallbackReason, Source
from sandbox.github import Fault, GitHub
from sandbox.postgres import Postgres
from tests.clone import Clone, git
from tests.freezing import frozen
from tests.system import System, running

DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
SESSIONS = Listing(collection=Collection.SESSIONS, where=Where(), order=Order.OCCURRED_AT_DESC)
EVERYTHING = """
query Everything($consistency: Consistency! = CACHE, $maxStaleness: Int) {
  sessions(consistency: $consistency, maxStaleness: $maxStaleness) {
    totalCount
    nodes { id markdown project { name sessions { totalCount } } provenance { commit } }
    provenance { source commit stale fallback }
  }
}
"""


async def make_cold(database_url: str, *paths: str) -> None:
    connection = await asyncpg.connect(database_url)
    where, values = ("WHERE path = ANY($1)", [list(paths)]) if paths else ("", [])
    await connection.execute(f"UPDATE sessions SET markdown = NULL {where}", *values)  # noqa: S608
    await connection.close()


async def connections_in_use(system: System) -> int:
    pool = system.parts.gateway.cache.database._engine.pool
    return int(pool.checkedout())  # type: ignore[attr-defined]


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(1000):
        if await is_so():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass")


# PostgreSQL


@pytest.mark.parametrize("failure", ["kill", "freeze"])
async def test_postgresql_may_fail_between_a_list_and_what_hangs_on_it(
    github: GitHub, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    pages, failing = Glance.pages, ExitStack()

    async def fail_after(
        self: Glance, asked: Sequence[tuple[Listing, Window]], columns: Columns
    ) -> list[Page]:
        found = await pages(self, asked, columns)
        monkeypatch.setattr(Glance, "pages", pages)
        if failure == "kill":
            await postgres.kill()
        else:
            failing.enter_context(frozen(postgres))
        return found

    async with running(github, postgres.url, {"DATABASE_TIMEOUT_SECONDS": "3"}) as system:
        await system.sync()
        before = (await system.ask(EVERYTHING)).data["sessions"]
        monkeypatch.setattr(Glance, "pages", fail_after)

        with failing:
            answer = await system.ask(EVERYTHING)

        assert answer.errors == []
        assert answer.data["sessions"]["nodes"] == before["nodes"]
        assert answer.data["sessions"]["totalCount"] == before["totalCount"]
        assert {n["provenance"]["commit"] for n in before["nodes"]} == {github.head}


async def test_what_the_cache_answers_while_the_rest_falls_back_is_not_told_for_another_commit(
    system: System, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first question that fails may go to a newer commit: then all others have to."""
    pages, falling = Glance.pages, asyncio.Event()

    async def late(
        self: Glance, asked: Sequence[tuple[Listing, Window]], columns: Columns
    ) -> list[Page]:
        await falling.wait()
        return await pages(self, asked, columns)

    async def fail(*_: object) -> dict[str, Indexed]:
        raise CacheUnavailable("for this test")

    monkeypatch.setattr(Glance, "pages", late)
    monkeypatch.setattr(Glance, "documents", fail)
    clone.push({DRILL: None})
    slow = system.github.faults.add(Fault(kind="latency", operation="query", ms=300))
    async with Operation(system.parts.gateway) as operation:
        view = await operation.view(Consistency.CACHE)
        listing = asyncio.create_task(view.pages([(SESSIONS, Window(size=20))], WITHOUT_BODIES))
        await asyncio.sleep(0)
        looking = asyncio.create_task(view.documents([DRILL], WITHOUT_BODIES))
        await slow.wait_until_struck()
        falling.set()

        [page], documents = await listing, await looking

        assert view.provenance.commit == system.github.head
        assert documents == {}
        assert DRILL not in {item.document.path for item in page.items}


@pytest.mark.usefixtures("system")
async def test_many_who_wait_for_github_do_not_keep_the_rest_from_the_cache(
    github: GitHub, database_url: str
) -> None:
    """If they held the ten connections for as long, the last would wait for twelve seconds."""
    await make_cold(database_url)
    patience = {"DATABASE_TIMEOUT_SECONDS": "6"}
    async with running(github, database_url, patience) as other:  # which has no blob in memory
        github.faults.add(Fault(kind="latency", operation="query", ms=2_000, count=None))

        answers = await asyncio.gather(*(other.ask(EVERYTHING) for _ in range(60)))

        told = [answer.data["sessions"]["provenance"] for answer in answers]
        assert {(p["source"], p["fallback"]) for p in told} == {("CACHE", None)}
        assert all(n["markdown"] for a in answers for n in a.data["sessions"]["nodes"])


@pytest.mark.usefixtures("system")
async def test_many_who_wait_for_a_mute_github_get_what_an_old_cache_has(
    github: GitHub, database_url: str
) -> None:
    async with running(github, database_url, {"MASTER_TIMEOUT_SECONDS": "2"}) as other:
        github.faults.add(Fault(kind="hang", operation="query", count=None))

        answers = await asyncio.gather(*(other.ask(EVERYTHING, maxStaleness=0) for _ in range(40)))

        told = [answer.data["sessions"]["provenance"] for answer in answers]
        assert {(p["source"], p["stale"], p["fallback"]) for p in told} == {
            ("CACHE", True, "MASTER_UNAVAILABLE")
        }


async def test_the_cache_may_move_on_in_the_middle_and_the_answer_stays_true_for_its_commit(
    system: System, clone: Clone
) -> None:
    async with Operation(system.parts.gateway) as operation:
        view = await operation.view(Consistency.CACHE)
        [page] = await view.pages([(SESSIONS, Window(size=1))], WITHOUT_BODIES)
        before = view.provenance
        clone.push({DRILL: None, "autosaves/a.md": "# A\n", "autosaves/b.md": "# B\n"})
        await system.sync()

        [count] = await view.counts([SESSIONS])
        found = await view.documents([DRILL, "autosaves/a.md"], WITHOUT_BODIES)

        assert page.has_next
        assert (count, list(found)) == (6, [DRILL])
        assert view.provenance.commit == before.commit
        assert view.provenance.source is Source.MASTER
        assert view.provenance.fallback is FallbackReason.CACHE_UNAVAILABLE


async def test_a_refused_field_leaves_no_connection_behind(system: System) -> None:
    for _ in range(20):
        answer = await system.ask(
            """{ a: sessions(first: 1000) { totalCount }
                 b: sessions { nodes { markdown project { name } } }
                 c: sessions(maxStaleness: 0) { totalCount }
                 d: sessions(consistency: VERIFIED) { nodes { markdown } } }"""
        )
        assert answer.code == "BAD_INPUT"

    async def is_idle() -> bool:
        return await connections_in_use(system) == 0

    await until(is_idle)


async def test_a_caller_who_goes_away_leaves_no_connection_behind(
    system: System, github: GitHub
) -> None:
    slow = github.faults.add(Fault(kind="latency", operation="query", ms=300, count=None))
    asking = [
        asyncio.create_task(system.ask(EVERYTHING, consistency=level, maxStaleness=0))
        for level in ("CACHE", "MASTER", "VERIFIED")
    ]
    await slow.wait_until_struck(3)
    for ask in asking:
        ask.cancel()
    await asyncio.gather(*asking, return_exceptions=True)

    async def is_idle() -> bool:
        return await connections_in_use(system) == 0

    await until(is_idle)


# GitHub


async def test_only_the_fields_that_need_github_fail_without_it(
    system: System, github: GitHub, database_url: str
) -> None:
    answer = await system.ask("{ sessions { nodes { id } } }")
    cold = next(n["id"] for n in answer.data["sessions"]["nodes"] if n["id"] != DRILL)
    await make_cold(database_url, cold)
    async with running(github, database_url) as other:
        await github.stop()

        answer = await other.ask(
            """query Two($hot: ID!, $cold: ID!) {
              hot: session(id: $hot) { markdown }
              cold: session(id: $cold) { title markdown }
              titles: sessions { totalCount nodes { title } }
              master: session(id: $hot, consistency: MASTER) { title }
              verified: session(id: $hot, consistency: VERIFIED) { title }
            }""",
            hot=DRILL,
            cold=cold,
        )

    assert {tuple(e["path"]) for e in answer.errors} == {
        ("cold", "markdown"),
        ("master",),
        ("verified",),
    }
    assert {e["extensions"]["code"] for e in answer.errors} == {"MASTER_UNAVAILABLE"}
    assert answer.data["hot"]["markdown"]
    assert answer.data["titles"]["totalCount"] == 6
    assert answer.data["cold"] is answer.data["master"] is answer.data["verified"] is None


async def test_a_master_that_is_down_is_tried_once_in_an_operation(
    system: System, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.gateway.circuit._FIRST_PAUSE", 60.0)
    await github.stop()
    before = system.requests
    aliases = " ".join(
        f'a{i}: session(id: "{DRILL}", consistency: MASTER) {{ id }}' for i in range(5)
    )

    answer = await system.ask(f"{{ {aliases} }}")

    assert [e["extensions"]["code"] for e in answer.errors] == ["MASTER_UNAVAILABLE"] * 5
    assert system.requests - before <= 2, "one, and another to find out whether it is an outage"


async def test_levels_and_arguments_may_be_mixed_in_one_operation(
    system: System, clone: Clone
) -> None:
    old = system.github.head
    new = clone.push({DRILL: "# New\n"})

    answer = await system.ask(
        """query Mixed($id: ID!, $new: GitObjectID!) {
          cache: session(id: $id) { ...Told }
          master: session(id: $id, consistency: MASTER) { ...Told }
          atLeast: session(id: $id, atLeast: $new) { ...Told }
          one: sessions(first: 1) { totalCount nodes { id } }
          two: sessions(first: 2, orderBy: PATH_ASC) { totalCount nodes { id } }
        }
        fragment Told on Session { title markdown provenance { commit } }""",
        id=DRILL,
        new=new,
    )

    assert answer.errors == []
    told = {n: answer.data[n]["provenance"]["commit"] for n in ("cache", "master", "atLeast")}
    assert told == {"cache": old, "master": new, "atLeast": new}
    assert answer.data["cache"]["title"] == "Outage drill"
    assert answer.data["master"]["markdown"] == answer.data["atLeast"]["markdown"] == "# New\n"
    assert [len(answer.data[n]["nodes"]) for n in ("one", "two")] == [1, 2]


async def test_a_rewritten_history_is_seen_by_every_level_in_its_time(
    system: System, clone: Clone
) -> None:
    old = system.github.head
    clone.push({DRILL: "# Lost\n"})
    lost = clone.push({"autosaves/lost.md": "# Lost too\n"})
    await system.sync()
    clone.reset(old or "")
    clone.push({"autosaves/kept.md": "# Kept\n"}, force=True)

    for level, has_lost in (("CACHE", True), ("MASTER", False), ("VERIFIED", False)):
        page = (await system.ask(EVERYTHING, consistency=level)).data["sessions"]
        ids = {node["id"] for node in page["nodes"]}
        assert ("autosaves/lost.md" in ids) is has_lost
        assert page["provenance"]["commit"] == (lost if has_lost else system.github.head)
    answer = await system.ask(
        "query Lost($c: GitObjectID!) { sessions(atLeast: $c) { totalCount } }",
        c=lost,
    )
    assert answer.code == "BAD_INPUT"


async def test_without_the_branch_nothing_is_an_empty_list_and_nothing_is_saved(
    system: System, clone: Clone
) -> None:
    git(clone.path, "push", "--quiet", "origin", "HEAD:refs/heads/other")
    git(system.github.path, "update-ref", "-d", "refs/heads/main")

    page = (await system.ask(EVERYTHING, maxStaleness=0)).data["sessions"]
    assert (page["totalCount"], page["provenance"]["stale"]) == (6, True)
    for level in ("MASTER", "VERIFIED"):
        answer = await system.ask(EVERYTHING, consistency=level)
        assert answer.code == "MASTER_UNAVAILABLE"
        assert "branch main does not exist" in answer.errors[0]["message"]
    answer = await system.ask(
        'mutation { createSession(input: {title: "T", markdown: "x"}) { cache } }'
    )
    assert answer.code in {"MASTER_UNAVAILABLE", "CONFLICT", "FORBIDDEN"}
    assert "Nothing was saved" in answer.errors[0]["message"]


async def test_documents_that_cannot_be_read_are_listed_and_harm_no_other(
    system: System, clone: Clone
) -> None:
    clone.push({"autosaves/binary.md": b"\xff\xfe", "autosaves/nul.md": b"a\0b"})
    await system.sync()

    for level in ("CACHE", "MASTER", "VERIFIED"):
        answer = await system.ask(
            """query All($level: Consistency!) { sessions(consistency: $level) {
              totalCount nodes { id unreadable markdown body excerpt metadata } } }""",
            level=level,
        )
        assert answer.errors == []
        nodes = answer.data["sessions"]["nodes"]
        assert answer.data["sessions"]["totalCount"] == len(nodes) == 8
        assert {n["id"] for n in nodes if n["unreadable"]} == {
            "autosaves/binary.md",
            "autosaves/nul.md",
        }
        assert all(bool(n["markdown"]) is not bool(n["unreadable"]) for n in nodes)


async def test_integers_of_any_size_and_nested_values_are_in_the_metadata(
    system: System, clone: Clone
) -> None:
    number = 2**70
    clone.push(
        {"autosaves/big.md": f"---\nbig: {number}\ndeep: {{a: [1, {{b: 😀}}]}}\n---\n# Big\n"}
    )
    await system.sync()

    answer = await system.ask('{ session(id: "autosaves/big.md") { metadata } }')

    assert answer.data["session"]["metadata"] == {"big": number, "deep": {"a": [1, {"b": "😀"}]}}


@pytest.mark.parametrize("text", ["Ж" * 100_000, "😀", "%_\\", "'; DROP TABLE sessions; --", ""])
@pytest.mark.parametrize("level", ["CACHE", "MASTER"])
async def test_a_filter_may_be_any_text(system: System, text: str, level: str) -> None:
    for name in ("status", "agent", "tag", "priority", "project", "titleContains"):
        answer = await system.ask(
            """query By($where: SessionFilter, $level: Consistency!) {
              sessions(where: $where, consistency: $level) { totalCount } }""",
            where={name: text},
            level=level,
        )
        assert answer.errors == []
        found = 6 if text == "" and name == "titleContains" else 0
        assert answer.data["sessions"]["totalCount"] == found


# VERIFIED


async def test_cold_documents_are_verified_and_read_whole(
    system: System, database_url: str
) -> None:
    await make_cold(database_url)
    query = """{ sessions(consistency: VERIFIED) {
        nodes { id markdown hot } provenance { commit verification } } }"""

    page = (await system.ask(query)).data["sessions"]

    assert page["provenance"] == {"commit": system.github.head, "verification": "MATCHED"}
    for node in page["nodes"]:
        assert node["hot"] is False
        assert node["markdown"].encode() == git(system.github.path, "show", f"main:{node['id']}")


async def test_a_verified_read_is_right_while_another_process_reconciles(
    system: System, github: GitHub, database_url: str, clone: Clone
) -> None:
    query = """{ sessions(consistency: VERIFIED, first: 100) {
        totalCount nodes { markdown } provenance { commit verification } } }"""
    async with running(github, database_url) as other:
        for i in range(5):
            pushed = clone.push({f"autosaves/{i}.md": f"# {i}\n", DRILL: f"# Drill {i}\n"})

            answer, *_ = await asyncio.gather(
                system.ask(query), other.parts.reconciler.run(), other.parts.reconciler.run()
            )

            page = answer.data["sessions"]
            assert page["totalCount"] == len(page["nodes"]) == 7 + i
            assert f"# Drill {i}\n" in [node["markdown"] for node in page["nodes"]]
            assert page["provenance"]["commit"] == pushed
