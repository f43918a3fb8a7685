"""What readers get without a transaction is of one version of the head, or they are told."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from api.cache.cache import Cache
from api.cache.changing import IndexChange
from api.cache.database import CacheUnavailable, Database
from api.cache.rows import WITH_BODIES, Columns, Upsert
from api.cache.snapshot import CachedHead, CacheMoved, Glance, Known
from api.cache.watch import Watch
from api.documents import Collection, Project, Session, blob_oid
from api.documents.listing import Indexed, Listing, Order, Where, Window
from sandbox.postgres import Postgres
from tests.cache.waiting import until
from tests.freezing import frozen

A, B = "a" * 40, "b" * 40
SEEN = datetime(2026, 11, 20, tzinfo=UTC)
SESSIONS = Listing(collection=Collection.SESSIONS, where=Where(), order=Order.OCCURRED_AT_DESC)


def session(path: str, text: str = "# Text\n") -> Indexed:
    document = Session(
        path=path,
        revision=blob_oid(text.encode()),
        bytes=len(text),
        title=path,
        metadata={"mood": {"level": 10**30}},
    )
    return Indexed(collection=Collection.SESSIONS, document=document, hot=True, markdown=text)


def project(path: str) -> Indexed:
    document = Project(path=path, revision=A, bytes=1, title=path, name=path)
    return Indexed(collection=Collection.PROJECTS, document=document)


async def put(
    cache: Cache, items: Sequence[Indexed], commit: str = A, expected: str | None = None
) -> None:
    change = IndexChange(
        head=CachedHead(commit, SEEN),
        directories={},
        upserts=[Upsert(item=item, changed_at=SEEN) for item in items],
        anew=expected is None,
    )
    assert await cache.apply(change, expected=expected)


async def known_of(cache: Cache) -> Known:
    known = await cache.look()
    assert known
    return known


async def test_there_is_nothing_to_glance_at_in_an_empty_cache(cache: Cache) -> None:
    assert await cache.look() is None
    await put(cache, [])
    assert (await known_of(cache)).head == CachedHead(A, SEEN)


async def test_rows_of_another_origin_are_nothing_to_glance_at(
    cache: Cache, database_url: str
) -> None:
    await put(cache, [session("a.md")])
    async with Database(database_url, timeout=10) as database:
        assert await Cache(database, "theirs").look() is None


@pytest.mark.parametrize("change", ["apply", "repair", "seen", "outdated", "empty"])
async def test_whatever_changes_the_head_is_noticed_by_the_next_question(
    cache: Cache, change: str
) -> None:
    await put(cache, [session("a.md")])
    known = await known_of(cache)
    glance = Glance(cache.database, known)
    assert list(await glance.documents(["a.md"])) == ["a.md"]
    match change:
        case "apply":
            await put(cache, [session("b.md")], B, expected=A)
        case "repair":
            await put(cache, [session("b.md")], A, expected=A)
        case "seen":
            assert await cache.seen(CachedHead(A, SEEN + timedelta(minutes=1)))
        case "outdated":
            await cache.outdated(SEEN + timedelta(minutes=1))
        case "empty":
            await cache.empty()

    for question in (
        glance.documents(["a.md"]),
        glance.documents(["none.md"]),
        glance.pages([(SESSIONS, Window())]),
        glance.counts([SESSIONS]),
        glance.bodies([A]),
        glance.projects(),
        glance.applied_at(A),
    ):
        with pytest.raises(CacheMoved):
            await question
    cache.forget(known)
    again = await cache.look()
    assert (again is None) == (change == "empty")


async def test_a_change_by_hand_is_noticed_as_well(cache: Cache, database_url: str) -> None:
    await put(cache, [])
    known = await known_of(cache)
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE head SET seen_at = seen_at - interval '1 day', version = 0")
    await connection.close()

    with pytest.raises(CacheMoved):
        await Glance(cache.database, known).counts([SESSIONS])
    cache.forget(known)
    assert (await known_of(cache)).head.seen_at == SEEN - timedelta(days=1)


async def test_only_what_is_wanted_is_read(cache: Cache) -> None:
    await put(cache, [session("a.md")])
    glance = Glance(cache.database, await known_of(cache))
    for columns in (Columns(), WITH_BODIES, Columns(metadata=False)):
        [page] = await glance.pages([(SESSIONS, Window())], columns)
        found = await glance.documents(["a.md"], columns)
        for item in (*page.items, *found.values()):
            assert item.hot
            assert item.markdown == ("# Text\n" if columns.bodies else None)
            mood = {"mood": {"level": 10**30}} if columns.metadata else {}
            assert item.document.metadata == mood


async def test_a_question_costs_one_statement_and_a_total_is_counted_once(cache: Cache) -> None:
    await put(cache, [session("a.md"), project("p.md")])
    glance = Glance(cache.database, await known_of(cache))
    before = cache.database.statements

    await glance.pages([(SESSIONS, Window()), (SESSIONS, Window(size=1))])
    await glance.documents(["a.md"], collections=[Collection.SESSIONS])
    assert cache.database.statements - before == 2
    for _ in range(3):
        other = Glance(cache.database, await known_of(cache))
        assert await other.counts([SESSIONS, SESSIONS]) == [1, 1]
        assert [item.document.path for item in await other.projects()] == ["p.md"]
    assert cache.database.statements - before == 4


async def test_readers_share_connections_and_lose_none(server: Postgres) -> None:
    async with Database(server.url, timeout=10) as database:

        async def one() -> int:
            [row] = await database.fetch("SELECT pg_backend_pid() AS pid, pg_sleep(0.001)", [])
            return int(row["pid"])

        asking = [asyncio.create_task(one()) for _ in range(200)]
        await asyncio.sleep(0.02)
        for task in asking[::3]:
            task.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        pids = {answer for answer in answers if isinstance(answer, int)}
        assert len(pids) > 0
        assert not [a for a in answers if not isinstance(a, int | asyncio.CancelledError)]
        assert not database.is_too_slow
        assert len({await one() for _ in range(20)}) == 1


async def test_many_readers_are_no_sign_of_trouble(server: Postgres) -> None:
    """Each is answered in time, but the last waits for longer than that."""
    async with Database(server.url, timeout=10, read_timeout=0.5) as database:
        answers = await asyncio.gather(
            *(database.fetch("SELECT pg_sleep(0.1)", []) for _ in range(100))
        )
    assert len(answers) == 100


async def test_a_statement_is_planned_for_its_values_however_often_it_is_asked(
    server: Postgres,
) -> None:
    """From the sixth time on, PostgreSQL would plan for any title, and most are no rare ones."""
    async with Database(server.url, timeout=10) as database:
        for _ in range(10):
            await database.fetch("SELECT relname FROM pg_class WHERE relname LIKE $1", ["%head%"])
        [plans] = await database.fetch(
            "SELECT sum(generic_plans) AS generic, sum(custom_plans) AS custom "
            "FROM pg_prepared_statements WHERE statement LIKE 'SELECT relname%'",
            [],
        )
    assert plans["generic"] == 0
    assert plans["custom"] == 10


async def test_a_reader_of_a_mute_server_waits_for_one_time_out_and_the_next_not_at_all(
    server: Postgres,
) -> None:
    async with Database(server.url, timeout=5, read_timeout=0.3) as database:
        await database.fetch("SELECT 1", [])
        with frozen(server):
            with pytest.raises(CacheUnavailable, match=r"0\.3 seconds"):
                await database.fetch("SELECT 1", [])
            sent = database.statements
            for _ in range(50):
                with pytest.raises(CacheUnavailable, match="down"):
                    await database.fetch("SELECT 1", [])
            assert database.statements == sent
            assert database.is_too_slow
            assert not database.is_down  # for those with more patience
        await until(lambda: not database.is_too_slow)
        assert await database.fetch("SELECT 1", [])


@pytest.mark.parametrize("patience", [60, 0.3])
async def test_a_server_that_was_silent_for_readers_alone_has_missed_nothing(
    server: Postgres, patience: float
) -> None:
    """Whoever writes waits for longer. If not for long enough, it went on without the cache."""
    async with Database(server.url, timeout=60, read_timeout=0.3) as database:
        await database.fetch("SELECT 1", [])
        database.timeout = patience
        with frozen(server), pytest.raises(CacheUnavailable):
            await database.fetch("SELECT 1", [])
        await until(lambda: not database.is_too_slow)

        assert (database.returned_at is not None) is (patience < 60)


async def test_a_refused_reader_is_told_at_once(server: Postgres) -> None:
    async with Database(server.url, timeout=30) as database:
        await server.kill()
        with pytest.raises(CacheUnavailable):
            await database.fetch("SELECT 1", [])
        assert database.is_down
        await server.start()
        await until(lambda: not database.is_down)
        assert await database.fetch("SELECT 1", [])


async def test_a_statement_that_is_refused_takes_nothing_down(database: Database) -> None:
    for sql, values in [("SELECT nonsense", []), ("SELECT $1::int", ["x"]), ("SELECT 1/0", [])]:
        with pytest.raises(CacheUnavailable):
            await database.fetch(sql, values)
        assert not database.is_too_slow
    assert await database.fetch("SELECT 1", [])


# The watch


async def confirmed(watch: Watch) -> int:
    """The version, once the watch is sure of it."""
    await until(lambda: watch.version is not None)
    version = watch.version
    assert version is not None
    return version


async def test_the_watch_hears_of_a_change_by_another_process(
    cache: Cache, database_url: str
) -> None:
    await put(cache, [])
    async with Database(database_url, timeout=10) as other, cache.watch as watch:
        first = await confirmed(watch)
        assert first == (await known_of(cache)).head.version
        await Cache(other, "ours").outdated(SEEN)
        await until(lambda: watch.version != first)
        assert await confirmed(watch) > first


async def test_the_watch_doubts_what_this_process_writes_at_once(cache: Cache) -> None:
    await put(cache, [])
    async with cache.watch as watch:
        first = await confirmed(watch)
        await put(cache, [], B, expected=A)
        assert watch.version is None
        assert await confirmed(watch) > first


async def test_the_watch_is_sure_of_nothing_while_postgresql_is_mute_or_gone(
    server: Postgres, database: Database
) -> None:
    connection = await asyncpg.connect(server.url)
    await connection.execute("DROP TABLE IF EXISTS head; CREATE TABLE head AS SELECT 7 AS version")
    await connection.close()
    async with Watch(database) as watch:
        assert await confirmed(watch) == 7
        with frozen(server):
            await until(lambda: watch.version is None)
        assert await confirmed(watch) == 7
        await server.kill()
        await until(lambda: watch.version is None)
        await server.start()
        assert await confirmed(watch) == 7


async def test_an_unwatched_version_is_not_sure(cache: Cache) -> None:
    await put(cache, [])
    assert cache.watch.version is None


async def test_nobody_asks_postgresql_while_nobody_wants_to_know(
    cache: Cache, database_url: str
) -> None:
    await put(cache, [])
    async with cache.watch as watch:
        await confirmed(watch)
        connection = await asyncpg.connect(database_url)
        counted = "SELECT state_change FROM pg_stat_activity WHERE query LIKE 'SELECT version%'"
        await asyncio.sleep(1)
        last = await connection.fetchval(counted)
        await asyncio.sleep(1)
        assert await connection.fetchval(counted) == last
        await connection.close()
