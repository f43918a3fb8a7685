"""What agents and operators are told of the cache itself: its checks, syncs, worker and gaps."""

import asyncio
import base64
import json
import unicodedata
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from sqlmodel import insert

from api.cache.tables import HealthCheckRow, SyncRow, WorkerRow
from api.jobs import SYNC
from api.master.errors import MasterError
from api.sync.health import check_health
from api.sync.log import logged
from sandbox.github import Fault, GitHub
from sandbox.postgres import Postgres
from tests.clone import Clone
from tests.system import System, running

START = datetime(2026, 11, 1, tzinfo=UTC)
DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
GARDEN = "autosaves/projects/kitchen-garden.md"
BROKEN = b"\0\xff"
CHECKS = """
query Checks($first: Int, $after: String) {
  healthChecks(first: $first, after: $after) {
    totalCount
    nodes { documents }
    edges { cursor node { documents } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""
UNREADABLE = """
query Unreadable($first: Int, $after: String) {
  unreadableDocuments(first: $first, after: $after) {
    totalCount
    nodes { path }
    pageInfo { hasNextPage hasPreviousPage endCursor }
  }
  cacheStatus { unreadable }
}
"""
STATUS = """
{ cacheStatus {
    available head documents unreadable
    lastHealthCheck { documents }
    worker { seenAt ageSeconds }
    lastSync { startedAt seconds requests points added changed removed bytes error }
} }
"""


async def check_at(system: System, number: int) -> None:
    """A check in the history, known again by how many documents it saw."""
    await system.parts.reconciler.cache.log(
        HealthCheckRow(
            checked_at=START + timedelta(days=number),
            seconds=0.5,
            commit="a" * 40,
            requests=1,
            documents=number,
            bodies=0,
            wrong_trees=0,
            drift={},
            drifted=0,
            repaired=0,
            consistency=1.0,
        )
    )


def numbers(connection: dict[str, list[dict[str, int]]]) -> list[int]:
    return [node["documents"] for node in connection["nodes"]]


def cursor_of(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


# Health checks


async def test_a_health_check_tells_what_it_proved_and_what_had_drifted(
    system: System, database_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM sessions WHERE path = $1", DRILL)
    await connection.execute("UPDATE projects SET title = 'Other'")
    await connection.close()
    report = await check_health(system.parts.reconciler, repair=False)
    wrong = len(report.drift) - 1

    answer = await system.ask(
        """{ healthChecks { totalCount nodes {
               commit documents drifted repaired consistency bodies requests seconds nines
               drift { kind documents } } } }"""
    )

    assert answer.errors == []
    assert answer.data["healthChecks"]["totalCount"] == 1
    [told] = answer.data["healthChecks"]["nodes"]
    assert told["drift"] == [
        {"kind": "MISSING", "documents": 1},
        {"kind": "WRONG_METADATA", "documents": wrong},
    ]
    assert (told["documents"], told["drifted"], told["repaired"]) == (10, wrong + 1, 0)
    assert (told["bodies"], told["commit"]) == (9, system.github.head)
    assert (told["consistency"], told["nines"]) == (report.consistency, report.nines)
    assert told["seconds"] > 0
    assert told["requests"] > 0


async def test_a_clean_check_claims_no_more_nines_than_its_documents_can_show(
    system: System,
) -> None:
    await check_at(system, 3_000)
    await check_at(system, 0)

    answer = await system.ask("{ healthChecks { nodes { consistency nines drift { kind } } } }")

    assert answer.data["healthChecks"]["nodes"] == [
        {"consistency": 1, "nines": 0, "drift": []},
        {"consistency": 1, "nines": pytest.approx(3), "drift": []},
    ]


async def test_health_checks_come_newest_first_and_a_new_one_moves_no_page(
    system: System,
) -> None:
    for number in range(5):
        await check_at(system, number)
    first = (await system.ask(CHECKS, first=2)).data["healthChecks"]
    await check_at(system, 5)

    second = await system.ask(CHECKS, first=2, after=first["pageInfo"]["endCursor"])
    third = await system.ask(
        CHECKS, first=2, after=second.data["healthChecks"]["pageInfo"]["endCursor"]
    )

    pages = [first, second.data["healthChecks"], third.data["healthChecks"]]
    assert [numbers(page) for page in pages] == [[4, 3], [2, 1], [0]]
    assert [page["totalCount"] for page in pages] == [5, 6, 6]
    told = [page["pageInfo"] for page in pages]
    assert [info["hasNextPage"] for info in told] == [True, True, False]
    assert [info["hasPreviousPage"] for info in told] == [False, True, True]
    for page in pages:
        assert [edge["node"] for edge in page["edges"]] == page["nodes"]
        assert page["pageInfo"]["startCursor"] == page["edges"][0]["cursor"]
        assert page["pageInfo"]["endCursor"] == page["edges"][-1]["cursor"]
    status = await system.ask("{ cacheStatus { lastHealthCheck { documents } } }")
    assert status.data["cacheStatus"]["lastHealthCheck"] == {"documents": 5}


async def test_a_page_of_none_and_a_page_behind_the_last_are_empty(system: System) -> None:
    await check_at(system, 1)
    last = (await system.ask(CHECKS)).data["healthChecks"]["pageInfo"]["endCursor"]

    none = (await system.ask(CHECKS, first=0)).data["healthChecks"]
    behind = (await system.ask(CHECKS, after=last)).data["healthChecks"]

    assert (none["nodes"], none["pageInfo"]["hasNextPage"], none["totalCount"]) == ([], True, 1)
    assert (behind["nodes"], behind["pageInfo"]["endCursor"]) == ([], None)


@pytest.mark.parametrize("field", ["healthChecks", "unreadableDocuments"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"first": -1},
        {"first": 101},
        {"after": ""},
        {"after": "\0"},
        {"after": "nonsense 🔥"},
        {"after": cursor_of("number", 2**63, "")},
        {"after": cursor_of("number", "1", "")},
        {"after": cursor_of("number", 1.5, "")},
        {"after": cursor_of("number", True, "")},
        {"after": cursor_of("rank", 1, "a.md")},
        {"after": cursor_of("path", "", "\ud800")},
        {"after": cursor_of("path", "", None)},
        {"after": cursor_of(*[[]] * 3)},
    ],
)
async def test_what_is_no_page_is_refused(
    system: System, field: str, arguments: dict[str, object]
) -> None:
    query = f"""query Q($first: Int, $after: String) {{
        {field}(first: $first, after: $after) {{ nodes {{ __typename }} }} }}"""
    answer = await system.ask(query, **arguments)
    assert answer.code == "BAD_INPUT"
    assert answer.data == {field: None}


async def test_each_list_refuses_the_cursors_of_the_other(system: System, clone: Clone) -> None:
    clone.push({"autosaves/broken.md": BROKEN})
    await system.sync()
    await check_at(system, 1)
    check = (await system.ask(CHECKS)).data["healthChecks"]["pageInfo"]["endCursor"]
    path = (await system.ask(UNREADABLE)).data["unreadableDocuments"]["pageInfo"]["endCursor"]

    assert (await system.ask(CHECKS, after=path)).code == "BAD_INPUT"
    assert (await system.ask(UNREADABLE, after=check)).code == "BAD_INPUT"


@pytest.mark.parametrize(
    "selection",
    [
        "healthChecks { totalCount }",
        "healthChecks { all: totalCount }",
        "healthChecks { ... { ... on HealthCheckConnection { totalCount } } }",
        "healthChecks { ...counted }",
        "healthChecks { nodes { documents } } healthChecks { totalCount }",
        "healthChecks { totalCount @include(if: true) }",
    ],
)
async def test_the_total_is_counted_however_it_is_asked_for(system: System, selection: str) -> None:
    await check_at(system, 1)
    fragment = "fragment counted on HealthCheckConnection { totalCount }"

    answer = await system.ask(f"{{ {selection} }} {fragment if '...c' in selection else ''}")

    assert answer.errors == []
    told = answer.data["healthChecks"]
    assert told.get("totalCount", told.get("all")) == 1


@pytest.mark.parametrize("field", ["healthChecks", "unreadableDocuments"])
async def test_the_total_is_counted_only_when_it_is_asked_for(system: System, field: str) -> None:
    async def cost(query: str) -> int:
        before = system.statements
        assert (await system.ask(query)).errors == []
        return system.statements - before

    assert await cost(f"{{ {field} {{ nodes {{ __typename }} }} }}") < await cost(
        f"{{ {field} {{ nodes {{ __typename }} totalCount }} }}"
    )


# Unreadable documents


async def test_unreadable_documents_of_all_collections_are_listed_with_the_reason(
    system: System, clone: Clone
) -> None:
    clone.push(
        {
            "autosaves/priorities/б.md": BROKEN,
            "autosaves/projects/latin-1.md": "# Café\n".encode("latin-1"),
            DRILL: b"a\0b",
        }
    )
    await system.sync()

    answer = await system.ask(
        """{ unreadableDocuments { totalCount nodes { path collection revision bytes reason } }
             cacheStatus { unreadable } }"""
    )

    assert answer.errors == []
    told = answer.data["unreadableDocuments"]
    assert [(n["path"], n["collection"], n["bytes"]) for n in told["nodes"]] == [
        (DRILL, "SESSIONS", 3),
        ("autosaves/priorities/б.md", "PRIORITIES", 2),
        ("autosaves/projects/latin-1.md", "PROJECTS", 7),
    ]
    assert told["totalCount"] == answer.data["cacheStatus"]["unreadable"] == 3
    documents = await system.ask(
        "{ "
        + " ".join(
            f"n{i}: node(id: {json.dumps(n['path'], ensure_ascii=False)}) "
            "{ ... on Document { revision unreadable } }"
            for i, n in enumerate(told["nodes"])
        )
        + " }"
    )
    assert [(n["revision"], n["reason"]) for n in told["nodes"]] == [
        (document["revision"], document["unreadable"]) for document in documents.data.values()
    ]


ODD = [
    "autosaves/Ёжик.md",
    f"autosaves/{unicodedata.normalize('NFD', 'Ёжик')}.md",
    "autosaves/ёжик.md",
    "autosaves/🦔.md",
    "autosaves/a b  c.md",
    "autosaves/quote'\"\\%_.md",
    "autosaves/newline\n.md",
    "autosaves/UPPER.md",
    "autosaves/upper.md",
    f"autosaves/{'long' * 60}.md",
    "autosaves/priorities/я.md",
    "projects/😀.md",
    "projects/\uffff.md",  # above the emoji in UTF-16, below it in code points
]


async def test_odd_paths_are_paged_through_once_each_in_the_order_of_code_points(
    system: System, clone: Clone
) -> None:
    clone.push(dict.fromkeys(ODD, BROKEN))
    await system.sync()

    for size in (1, 2, 5, len(ODD)):
        found, after = list[str](), None
        while True:
            answer = await system.ask(UNREADABLE, first=size, after=after)
            assert answer.errors == []
            page = answer.data["unreadableDocuments"]
            assert page["totalCount"] == answer.data["cacheStatus"]["unreadable"] == len(ODD)
            found += [node["path"] for node in page["nodes"]]
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                break
        assert found == sorted(ODD)


async def test_documents_that_come_and_go_between_pages_double_and_hide_none(
    system: System, clone: Clone
) -> None:
    clone.push({f"autosaves/{name}.md": BROKEN for name in "bdfh"})
    await system.sync()
    first = (await system.ask(UNREADABLE, first=2)).data["unreadableDocuments"]
    assert [node["path"][-4] for node in first["nodes"]] == ["b", "d"]
    clone.push(
        {
            "autosaves/a.md": BROKEN,  # before the page that was read
            "autosaves/e.md": BROKEN,  # after it
            "autosaves/d.md": None,  # the one that the cursor names
            "autosaves/h.md": "# Readable\n",
        }
    )
    await system.sync()

    answer = await system.ask(UNREADABLE, first=9, after=first["pageInfo"]["endCursor"])

    rest = answer.data["unreadableDocuments"]
    assert [node["path"][-4] for node in rest["nodes"]] == ["e", "f"]
    assert rest["totalCount"] == answer.data["cacheStatus"]["unreadable"] == 4


async def test_without_a_head_nothing_is_unreadable_and_the_checks_are_still_known(
    system: System, clone: Clone
) -> None:
    clone.push({DRILL: BROKEN})
    await system.sync()
    await check_at(system, 1)
    await system.parts.gateway.cache.empty()

    answer = await system.ask(UNREADABLE)
    assert answer.data["unreadableDocuments"]["nodes"] == []
    assert answer.data["unreadableDocuments"]["totalCount"] == 0
    assert answer.data["cacheStatus"] == {"unreadable": 0}
    assert numbers((await system.ask(CHECKS)).data["healthChecks"]) == [1]
    status = (await system.ask(STATUS)).data["cacheStatus"]
    assert (status["available"], status["head"], status["documents"]) == (True, None, 0)
    assert status["lastHealthCheck"] == {"documents": 1}


# What an operator needs


async def test_before_anything_happened_there_is_no_worker_no_sync_and_no_check(
    github: GitHub, database_url: str
) -> None:
    async with running(github, database_url) as system:
        status = (await system.ask(STATUS)).data["cacheStatus"]

    told = (status["worker"], status["lastSync"], status["lastHealthCheck"])
    assert (status["available"], told) == (True, (None, None, None))


async def test_the_worker_that_was_seen_last_is_shown(system: System) -> None:
    now = datetime.now(UTC)
    rows = [
        {"name": name, "started_at": START, "seen_at": now - timedelta(seconds=ago)}
        for name, ago in (("a", 500), ("b", 60), ("c", 90), ("d", -60))
    ]
    async with system.parts.gateway.cache.database.transaction() as connection:
        await connection.run(insert(WorkerRow), rows[:3])

    seen = (await system.ask(STATUS)).data["cacheStatus"]["worker"]

    assert datetime.fromisoformat(seen["seenAt"]) == now - timedelta(seconds=60)
    assert seen["ageSeconds"] >= 60
    async with system.parts.gateway.cache.database.transaction() as connection:
        await connection.run(insert(WorkerRow), rows[3:])  # by a clock that is fast
    assert (await system.ask(STATUS)).data["cacheStatus"]["worker"]["ageSeconds"] == 0


async def test_the_last_sync_tells_what_it_did_and_what_it_cost(
    system: System, clone: Clone
) -> None:
    parts = system.parts
    clone.push({DRILL: "# Changed\n", "autosaves/new.md": "# New\n", GARDEN: None})
    report = await logged(parts.reconciler, SYNC, parts.reconciler.run)
    await logged(parts.reconciler, SYNC, parts.reconciler.run)  # which finds nothing to do
    await parts.gateway.cache.log(SyncRow(kind="retention", started_at=START, seconds=1))

    told = (await system.ask(STATUS)).data["cacheStatus"]["lastSync"]

    assert (told["added"], told["changed"], told["removed"], told["error"]) == (1, 1, 1, None)
    assert told["requests"] == report.requests > 0
    assert (told["points"], told["bytes"]) == (report.points, report.bytes)
    assert datetime.fromisoformat(told["startedAt"]) > START


async def test_a_sync_may_have_received_more_bytes_than_an_int_holds(system: System) -> None:
    await system.parts.gateway.cache.log(
        SyncRow(kind=SYNC, started_at=START, seconds=1, bytes=5_000_000_000)
    )

    told = (await system.ask(STATUS)).data["cacheStatus"]["lastSync"]

    assert told["bytes"] == 5_000_000_000


async def test_a_sync_that_failed_says_why_and_keeps_no_secret(system: System) -> None:
    parts = system.parts
    system.github.faults.add(Fault(kind="bad_credentials"))
    with pytest.raises(MasterError):
        await logged(parts.reconciler, SYNC, parts.reconciler.run)

    told = (await system.ask(STATUS)).data["cacheStatus"]["lastSync"]

    assert told["error"].startswith("AccessRefused: GitHub refused the credentials")
    assert system.github.token not in told["error"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError("cannot read /home/somebody/token, user=postgres password=canary"),
            "OSError: Nobody foresaw this. What the process wrote to its log says more.",
        ),
        (MasterError("GitHub said \0 and \ud800."), "MasterError: GitHub said � and �."),
        (MasterError("long" * 1_000), f"MasterError: {'long' * 250}"),
    ],
)
async def test_only_sentences_of_ours_stand_in_the_log(
    system: System, error: Exception, told: str
) -> None:
    async def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        await logged(system.parts.reconciler, SYNC, fail)

    answer = await system.ask("{ cacheStatus { lastSync { error } } }")
    assert answer.data["cacheStatus"]["lastSync"] == {"error": told}


# Without PostgreSQL


async def test_without_postgresql_the_lists_are_null_and_all_else_is_answered(
    github: GitHub, postgres: Postgres
) -> None:
    async with running(github, postgres.url) as system:
        await system.sync()
        await check_at(system, 1)
        await postgres.kill()

        answers = await asyncio.gather(
            *(
                system.ask(
                    """{ cacheStatus { available worker { seenAt } lastSync { error } }
                         healthChecks { totalCount nodes { documents } }
                         unreadableDocuments { totalCount nodes { path } }
                         sessions { totalCount provenance { fallback } } }"""
                )
                for _ in range(5)
            )
        )

        for answer in answers:
            assert answer.errors == []
            assert answer.data == {
                "cacheStatus": {"available": False, "worker": None, "lastSync": None},
                "healthChecks": None,
                "unreadableDocuments": None,
                "sessions": {"totalCount": 6, "provenance": {"fallback": "CACHE_UNAVAILABLE"}},
            }
        assert (await system.ask(CHECKS, after="nonsense")).code == "BAD_INPUT"
