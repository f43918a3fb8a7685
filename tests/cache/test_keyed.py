"""The copy of the keyed writes is complete for the head that it names, or it is not used."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from api.cache.cache import Cache
from api.cache.database import CacheUnavailable, Database
from api.cache.keyed import KeyedHistory, KeyedWrite
from api.cache.migrate import migrate
from sandbox.postgres import Postgres

NOW = datetime(2026, 11, 20, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)
A, B, C = (letter * 40 for letter in "abc")


def write(key: str, at: datetime = NOW) -> KeyedWrite:
    return KeyedWrite(
        key=key,
        content="c" * 32,
        write_id=f"write {key}",
        chosen=["autosaves/x.md", "autosaves/ж.md"],
        commit=A,
        parent=B,
        tree=None,
        committed_at=at,
    )


async def add(history: KeyedHistory, head: str, *keys: str) -> bool:
    return await history.add(map(write, keys), head=head, since=LONG_AGO)


async def loaded(cache: Cache) -> tuple[str, set[str]] | None:
    """What a process that starts finds."""
    found = await KeyedHistory(cache).load()
    return (found[0], {write.key for write in found[1]}) if found else None


async def rows(database_url: str, table: str) -> Sequence[asyncpg.Record]:
    connection = await asyncpg.connect(database_url)
    try:
        return list(await connection.fetch(f"SELECT * FROM {table}"))  # noqa: S608
    finally:
        await connection.close()


async def run(database_url: str, *statements: str) -> None:
    connection = await asyncpg.connect(database_url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


@pytest.fixture
async def two(cache: Cache) -> tuple[KeyedHistory, KeyedHistory]:
    """Two processes that know the same rows."""
    one, two = KeyedHistory(cache), KeyedHistory(cache)
    await one.replace([write("first")], head=A)
    await two.load()
    return one, two


async def test_what_was_written_is_read_as_it_was(cache: Cache) -> None:
    await KeyedHistory(cache).replace([write("k")], head=A)

    assert await KeyedHistory(cache).load() == (A, [write("k")])


async def test_without_a_record_there_is_nothing_to_add_to(cache: Cache) -> None:
    history = KeyedHistory(cache)

    assert await history.load() is None
    assert not await add(history, A, "k")
    assert await loaded(cache) is None


async def test_several_add_to_one_record(
    cache: Cache, two: tuple[KeyedHistory, KeyedHistory]
) -> None:
    one, other = two

    assert await add(one, B, "one")
    assert await add(other, C, "other", "one")
    assert await add(one, B)

    assert await loaded(cache) == (B, {"first", "one", "other"})


async def test_thousands_are_written_and_read(cache: Cache) -> None:
    await KeyedHistory(cache).replace((write(f"{n}") for n in range(3_000)), head=A)

    found = await loaded(cache)
    assert found is not None
    assert len(found[1]) == 3_000


async def test_what_is_old_is_forgotten(cache: Cache) -> None:
    history = KeyedHistory(cache)
    await history.replace([write("old", LONG_AGO), write("new")], head=A)

    await history.add([], head=B, since=NOW - timedelta(days=8))

    assert await loaded(cache) == (B, {"new"})


@pytest.mark.parametrize("table", ["keyed_history", "keyed_history, keyed_writes"])
async def test_after_a_wipe_nobody_adds_to_what_is_not_there(
    cache: Cache, database_url: str, two: tuple[KeyedHistory, KeyedHistory], table: str
) -> None:
    await run(database_url, f"TRUNCATE {table}")

    assert not await add(two[0], B, "one")
    assert await loaded(cache) is None


async def test_what_somebody_wrote_anew_is_not_added_to_by_who_has_not_seen_it(
    cache: Cache, two: tuple[KeyedHistory, KeyedHistory]
) -> None:
    one, other = two
    await add(one, B, "one")
    await other.replace([write("first")], head=A)  # it does not know the latest

    assert not await add(one, C, "late")
    assert await loaded(cache) == (A, {"first"})


async def test_an_old_backup_is_not_added_to_by_who_knows_more(
    cache: Cache, database_url: str, two: tuple[KeyedHistory, KeyedHistory]
) -> None:
    await run(database_url, "CREATE TABLE backup AS TABLE keyed_history")
    await add(two[0], B, "lost")
    await run(
        database_url,
        "DELETE FROM keyed_writes WHERE key = 'lost'",
        "DELETE FROM keyed_history",
        "INSERT INTO keyed_history TABLE backup",
    )

    assert not await add(two[0], C, "next")
    assert await loaded(cache) == (A, {"first"})


async def test_the_record_of_another_repository_is_none(cache: Cache, database_url: str) -> None:
    await KeyedHistory(cache).replace([write("theirs")], head=A)
    ours = Cache(cache.database, "another origin")

    history = KeyedHistory(ours)
    assert await history.load() is None
    assert not await add(history, B, "k")
    await history.replace([write("ours")], head=B)

    assert await loaded(ours) == (B, {"ours"})
    assert await loaded(cache) is None
    assert len(await rows(database_url, "keyed_writes")) == 1


@pytest.fixture
async def mortal(server: Postgres) -> AsyncIterator[Cache]:
    await migrate(server.url)
    async with Database(server.url, timeout=3) as database:
        yield Cache(database, "ours")


async def test_who_does_not_know_whether_it_was_added_adds_no_more(
    mortal: Cache, server: Postgres
) -> None:
    history = KeyedHistory(mortal)
    await history.replace([], head=A)
    await server.kill()
    with pytest.raises(CacheUnavailable):
        await add(history, B, "k")
    await server.start()
    async with Database(server.url, timeout=5) as database:
        again = Cache(database, "ours")
        history._cache = again  # that server is still thought to be down

        assert not await add(history, C, "next")
        assert await loaded(again) == (A, set())
