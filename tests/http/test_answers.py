"""An answer that is given again is as true as one that is made anew."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.gateway.provenance import Age
from api.http.reply import Text
from sandbox.github import GitHub
from sandbox.postgres import Postgres
from tests.cache.waiting import until
from tests.clone import Clone
from tests.freezing import frozen
from tests.system import System, running
from tests.waiting import until as comes_about

DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
TITLES = "{ sessions { nodes { title markdown } totalCount provenance { source commit } } }"
AGES = """
{ sessions(first: 2) { nodes { title provenance { ageSeconds asOf } }
                       provenance { ageSeconds asOf commit } } }
"""
CREATE = """
mutation { createSession(input: {title: "One more", markdown: "x"}) { session { id } cache } }
"""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
answers = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | texts | st.just(Age),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(answers)
def test_the_text_of_an_answer_is_its_json_with_the_ages_of_now(answer: object) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=1)

    def filled(value: object, age: object) -> object:
        if isinstance(value, dict):
            return {name: filled(inner, age) for name, inner in value.items()}
        if isinstance(value, list):
            return [filled(inner, age) for inner in value]
        return age if value is Age else value

    text = Text.of(filled(answer, Age(long_ago)))

    told = json.loads(text.now(), parse_float=lambda age: 86_400 <= float(age) < 86_500)
    assert told == filled(answer, True)


def test_what_orjson_cannot_write_is_written_and_not_kept() -> None:
    answer = {"data": {"big": 2**70, "age": Age(datetime.now(UTC))}}
    text = Text.of(answer)
    assert json.loads(text.now())["data"]["big"] == 2**70
    assert not text.lasts


# Over HTTP


async def is_given_again(system: System, query: str, **variables: object) -> bool:
    """Whether the answer comes without a question to PostgreSQL."""
    for _ in range(100):
        statements = system.statements
        answer = await system.ask(query, **variables)
        assert answer.errors == []
        if system.statements == statements:
            return True
        await asyncio.sleep(0.01)
    return False


async def titles(system: System) -> list[str]:
    answer = await system.ask(TITLES)
    assert answer.errors == []
    return [node["title"] for node in answer.data["sessions"]["nodes"]]


async def test_the_same_question_is_answered_without_asking_anybody(system: System) -> None:
    first = await system.ask(TITLES)
    assert await is_given_again(system, TITLES)
    assert await system.ask(TITLES) == first
    requests = system.requests
    await asyncio.gather(*(system.ask(TITLES) for _ in range(50)))
    assert system.requests == requests


async def test_what_was_written_here_is_in_the_next_answer(system: System) -> None:
    for _ in range(5):
        assert await is_given_again(system, TITLES)
        before = await titles(system)
        assert (await system.ask(CREATE)).data["createSession"]["cache"] == "UPDATED"
        assert len(await titles(system)) == len(before) + 1


async def test_what_another_process_brought_is_in_the_answer_once_that_is_known(
    system: System, github: GitHub, database_url: str, clone: Clone
) -> None:
    async with running(github, database_url) as other:
        assert await is_given_again(system, TITLES)
        clone.push({"autosaves/2026/11/news.md": "# News\n"})
        await other.sync()

        async def is_known() -> bool:
            return "News" in await titles(system)

        await comes_about(is_known, "the news are told")
        for _ in range(20):
            assert "News" in await titles(system)


async def test_a_damaged_row_that_is_repaired_is_not_given_again(
    system: System, database_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE sessions SET title = 'Wrong' WHERE path = $1", DRILL)
    assert await is_given_again(system, TITLES)
    assert "Wrong" in await titles(system)

    repaired = await system.ask(TITLES.replace("sessions", "sessions(consistency: VERIFIED)", 1))

    assert repaired.errors == []
    assert "Wrong" not in await titles(system)
    await connection.close()


async def test_ages_grow_and_are_renewed_by_a_sync_that_finds_nothing(system: System) -> None:
    assert await is_given_again(system, AGES)
    first = (await system.ask(AGES)).data["sessions"]["provenance"]
    await asyncio.sleep(0.05)
    later = (await system.ask(AGES)).data["sessions"]
    assert later["provenance"]["asOf"] == first["asOf"]
    assert later["provenance"]["ageSeconds"] >= first["ageSeconds"] + 0.05
    for node in later["nodes"]:
        assert node["provenance"]["ageSeconds"] == later["provenance"]["ageSeconds"]

    await system.sync()

    renewed = (await system.ask(AGES)).data["sessions"]["provenance"]
    assert renewed["asOf"] > first["asOf"]
    assert renewed["commit"] == first["commit"]
    assert is_about_now(renewed)


def is_about_now(provenance: Mapping[str, Any]) -> bool:
    as_of = datetime.fromisoformat(provenance["asOf"])
    age = datetime.now(UTC) - as_of
    return -0.001 <= age.total_seconds() - float(provenance["ageSeconds"]) < 10


@pytest.mark.parametrize(
    "query",
    [
        "{ cacheStatus { ageSeconds } }",
        "{ sessions { totalCount } cacheStatus { ageSeconds } }",
        "{ sessions { nodes { hot } } }",
        "{ sessions { nodes { ...F } } } fragment F on Session { warm: hot }",
        "{ sessions(consistency: MASTER) { totalCount } }",
        "{ sessions(consistency: VERIFIED) { totalCount } }",
        "{ a: sessions { totalCount } b: sessions(consistency: MASTER) { totalCount } }",
        "{ sessions(maxStaleness: 0) { totalCount } }",
        "{ healthChecks { totalCount } sessions { totalCount } }",
        "{ unreadableDocuments { totalCount } sessions { totalCount } }",
    ],
)
async def test_what_may_change_while_the_head_does_not_is_asked_for_anew(
    system: System, query: str
) -> None:
    for _ in range(3):
        statements, requests = system.statements, system.requests
        assert (await system.ask(query)).errors == []
        assert (system.statements, system.requests) != (statements, requests)


async def test_an_answer_is_not_given_again_once_it_is_older_than_was_asked_for(
    system: System,
) -> None:
    query = "{ sessions(maxStaleness: 1) { totalCount provenance { source fallback } } }"
    await system.sync()
    first = await system.ask(query)
    assert first.data["sessions"]["provenance"]["source"] == "CACHE"

    async def is_too_old() -> bool:
        told = (await system.ask(query)).data["sessions"]["provenance"]
        return bool(told == {"source": "MASTER", "fallback": "CACHE_STALE"})

    await comes_about(is_too_old, "the cache is too old for this")


async def test_errors_and_other_variables_are_other_answers(system: System) -> None:
    query = "query Q($first: Int) { sessions(first: $first) { nodes { title } } }"
    assert await is_given_again(system, query, first=2)
    assert len((await system.ask(query, first=2)).data["sessions"]["nodes"]) == 2
    assert len((await system.ask(query, first=3)).data["sessions"]["nodes"]) == 3
    for _ in range(2):
        assert (await system.ask(query, first=-1)).code == "BAD_INPUT"


async def test_nothing_is_given_again_while_postgresql_cannot_be_heard(
    github: GitHub, postgres: Postgres
) -> None:
    """Others may have committed meanwhile, and nobody could have told us."""
    async with running(github, postgres.url, {"DATABASE_TIMEOUT_SECONDS": "1"}) as system:
        await system.sync()
        assert await is_given_again(system, TITLES)
        watch = system.parts.gateway.cache.watch
        with frozen(postgres):
            await until(lambda: watch.version is None)
            told = (await system.ask(TITLES)).data["sessions"]["provenance"]
            assert told["source"] == "MASTER"
        await postgres.kill()
        told = (await system.ask(TITLES)).data["sessions"]["provenance"]
        assert told["source"] == "MASTER"
