"""One change of the index is one transaction, from the head that it was made for and no other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from sqlalchemy import text

from api.cache import database as database_module
from api.cache.cache import Cache
from api.cache.changing import _APPLY_LOCK, IndexChange
from api.cache.database import CacheUnavailable, Database
from api.cache.migrate import migrate
from api.cache.rows import Upsert
from api.cache.snapshot import CachedHead
from api.cache.tables import HealthCheckRow, SyncRow
from api.documents import Collection, Session, blob_oid
from api.documents.listing import Indexed
from sandbox.postgres import Postgres
from tests.cache.documents import SEEN
from tests.cache.waiting import until

T = TypeVar("T")
A, B, C, D = (letter * 40 for letter in "abcd")


def change(
    commit: str,
    *paths: str,
    removals: tuple[str, ...] = (),
    anew: bool = False,
    forward: bool = True,
) -> IndexChange:
    """To a head at which these paths hold a session that names the commit."""
    return IndexChange(
        head=CachedHead(commit, SEEN),
        directories={"": commit},
        upserts=[
            Upsert(
                item=Indexed(
                    collection=Collection.SESSIONS,
                    document=Session(
                        path=path, revision=blob_oid(commit.encode()), bytes=40, title=commit
                    ),
                    hot=True,
                    markdown=commit,
                ),
                changed_at=SEEN,
            )
            for path in paths
        ],
        removals=removals,
        anew=anew,
        forward=forward,
    )


async def state(cache: Cache) -> tuple[str | None, dict[str, str], dict[str, str]]:
    """The head, the titles by path, and the directories."""
    async with cache.snapshot() as snapshot:
        items = await snapshot.everything(Collection.SESSIONS)
        titles = {item.document.path: item.document.title for item in items}
        head = snapshot.head.commit if snapshot.head else None
        return head, titles, await snapshot.directories()


async def ledger(cache: Cache) -> set[str]:
    async with cache.snapshot() as snapshot:
        return {oid for oid in (A, B, C, D) if await snapshot.applied_at(oid)}


async def test_rows_directories_and_head_move_together(cache: Cache) -> None:
    assert await cache.apply(change(A, "x.md", "y.md", anew=True), expected=None)
    assert await cache.apply(change(B, "z.md", removals=("x.md",)), expected=A)
    assert await state(cache) == (B, {"y.md": A, "z.md": B}, {"": B})


@pytest.mark.parametrize("expected", [None, B])
async def test_a_change_made_for_another_head_changes_nothing(
    cache: Cache, expected: str | None
) -> None:
    await cache.apply(change(A, "x.md", anew=True), expected=None)
    before = await state(cache)
    assert not await cache.apply(change(C, "x.md", anew=True), expected=expected)
    assert await state(cache) == before


async def test_of_many_changes_for_one_head_one_is_applied(cache: Cache) -> None:
    """The others are refused, whether they come in its middle or after it."""
    await cache.apply(change(A, anew=True), expected=None)
    commits = [f"{i:040}" for i in range(8)]
    outcomes = await asyncio.gather(
        *(cache.apply(change(commit, "x.md"), expected=A) for commit in commits)
    )
    assert sum(outcomes) == 1
    winner = commits[outcomes.index(True)]
    assert await state(cache) == (winner, {"x.md": winner}, {"": winner})


async def test_a_change_in_progress_makes_others_go_away_not_wait(cache: Cache) -> None:
    await cache.apply(change(A, anew=True), expected=None)
    async with cache.database.transaction() as other:
        await other.rows(text("SELECT pg_advisory_xact_lock(:lock)").bindparams(lock=_APPLY_LOCK))
        assert not await cache.apply(change(B), expected=A)
    assert await cache.apply(change(B), expected=A)


async def test_beginning_anew_leaves_nothing_of_the_old_index(cache: Cache) -> None:
    old = replace(change(A, "x.md", "y.md", anew=True), directories={"": A, "autosaves": A})
    await cache.apply(old, expected=None)
    assert await cache.apply(change(B, "y.md", anew=True), expected=A)
    assert await state(cache) == (B, {"y.md": B}, {"": B})
    assert await ledger(cache) == {B}


async def test_what_another_origin_left_counts_as_nothing(cache: Cache) -> None:
    """Another repository, branch, layout or parser: its head and its ledger are not ours."""
    theirs = Cache(cache.database, "theirs")
    await theirs.apply(change(A, "x.md", anew=True), expected=None)
    async with cache.snapshot() as snapshot:
        assert snapshot.head is None
    assert not await cache.apply(change(B, "y.md", anew=True), expected=A)
    await cache.seen(CachedHead(A, SEEN + timedelta(hours=1)))
    async with theirs.snapshot() as snapshot:
        assert snapshot.head == CachedHead(A, SEEN)

    assert await cache.apply(change(B, "y.md", anew=True), expected=None)

    assert await state(cache) == (B, {"y.md": B}, {"": B})
    assert await ledger(cache) == {B}
    async with theirs.snapshot() as snapshot:
        assert snapshot.head is None


async def test_a_document_may_move_to_another_collection(cache: Cache) -> None:
    await cache.apply(change(A, "x.md", anew=True), expected=None)
    [upsert] = change(B, "x.md").upserts
    moved = replace(upsert, item=replace(upsert.item, unreadable="why"))
    assert await cache.apply(replace(change(B), upserts=[moved], removals=["x.md"]), expected=A)
    assert await state(cache) == (B, {"x.md": B}, {"": B})


# The ledger: whether a head contains a commit


async def test_the_ledger_knows_every_head_that_was_passed(cache: Cache) -> None:
    await cache.apply(change(A, anew=True), expected=None)
    await cache.apply(change(B), expected=A)
    await cache.apply(change(C), expected=B)
    assert await ledger(cache) == {A, B, C}


async def test_after_a_rewrite_the_ledger_claims_nothing_of_before(cache: Cache) -> None:
    """Or a reader that asks for a commit that is gone would be told that he sees it."""
    await cache.apply(change(A, anew=True), expected=None)
    await cache.apply(change(B), expected=A)
    await cache.apply(change(C, forward=False), expected=B)
    assert await ledger(cache) == {C}


async def test_a_repair_is_no_new_entry(cache: Cache) -> None:
    await cache.apply(change(A, anew=True), expected=None)
    async with cache.snapshot() as snapshot:
        reached = await snapshot.applied_at(A)
    assert await cache.apply(change(A, "x.md"), expected=A)
    async with cache.snapshot() as snapshot:
        assert await snapshot.applied_at(A) == reached


async def test_the_head_is_seen_later_and_never_earlier(cache: Cache) -> None:
    await cache.apply(change(A, anew=True), expected=None)
    for commit, minutes, told in [(A, 5, 5), (A, 3, 5), (B, 9, 5)]:
        await cache.seen(CachedHead(commit, SEEN + timedelta(minutes=minutes)))
        async with cache.snapshot() as snapshot:
            assert snapshot.head == CachedHead(A, SEEN + timedelta(minutes=told))


async def test_what_was_seen_before_it_got_outdated_is_never_fresh_again(cache: Cache) -> None:
    await cache.apply(change(A, anew=True), expected=None)

    await cache.outdated(SEEN + timedelta(minutes=5))
    await cache.outdated(SEEN + timedelta(minutes=3))  # that came late, and takes nothing back

    async with cache.snapshot() as snapshot:
        assert snapshot.head is not None
        assert snapshot.head.outdated_at == SEEN + timedelta(minutes=5)
    later = CachedHead(B, SEEN + timedelta(minutes=9))
    await cache.apply(replace(change(B), head=later), expected=A)
    async with cache.snapshot() as snapshot:
        assert snapshot.head is not None
        assert snapshot.head.outdated_at is not None
        assert snapshot.head.seen_at > snapshot.head.outdated_at


async def test_an_empty_cache_cannot_be_outdated(cache: Cache) -> None:
    await cache.outdated(SEEN)

    async with cache.snapshot() as snapshot:
        assert snapshot.head is None


# Turns


async def test_only_one_has_the_turn_to_commit(cache: Cache, database_url: str) -> None:
    order: list[str] = []
    async with Database(database_url, timeout=10) as database:
        other = Cache(database, "ours")

        async def take() -> None:
            async with other.turn_to_commit():
                order.append("second")

        async with cache.turn_to_commit():
            second = asyncio.create_task(take())
            await asyncio.sleep(0.1)
            order.append("first")
        await second
    assert order == ["first", "second"]


async def test_who_gets_no_turn_in_time_goes_on_without(database_url: str) -> None:
    async with (
        Database(database_url, timeout=2) as database,
        Cache(database, "ours").turn_to_commit(),
        Cache(database, "ours").turn_to_commit(),
    ):
        assert not database.is_down


async def test_without_a_server_nobody_needs_a_turn(mortal: Cache, server: Postgres) -> None:
    await server.kill()
    done = False
    async with mortal.turn_to_commit():
        done = True
    assert done


async def test_what_fails_during_a_turn_is_not_hidden_and_ends_it(cache: Cache) -> None:
    with pytest.raises(ZeroDivisionError):
        async with cache.turn_to_commit():
            raise ZeroDivisionError
    async with asyncio.timeout(5), cache.turn_to_commit():
        pass


async def test_one_has_the_turn_to_reconcile_and_whoever_waits_gets_it_next(
    cache: Cache, database_url: str
) -> None:
    async with Database(database_url, timeout=10) as database:
        other = Cache(database, "ours")

        async def take() -> bool:
            async with other.turn_to_reconcile() as turn:
                return turn is not None

        async with cache.turn_to_reconcile() as turn:
            assert turn is not None
            second = asyncio.create_task(take())
            await asyncio.sleep(0.1)
            assert not second.done()
        assert await second


async def test_who_waits_for_a_turn_keeps_no_connection(database_url: str) -> None:
    async with Database(database_url, timeout=5) as database:
        cache = Cache(database, "ours")

        async def wait() -> None:
            async with cache.turn_to_reconcile():
                pass

        async with cache.turn_to_reconcile():
            waiting = [asyncio.create_task(wait()) for _ in range(30)]
            for _ in range(20):
                async with cache.snapshot() as snapshot:
                    assert snapshot.head is None
        await asyncio.gather(*waiting)


@pytest.mark.parametrize("nth", range(1, 6))
async def test_a_turn_cancelled_at_the_moment_it_comes_is_not_kept(
    cache: Cache, database_url: str, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """The lock outlives transactions: on a connection of the pool it would be held for ever."""
    within, answers = database_module._within, 0

    async def cancelled(seconds: float, pending: "asyncio.Future[T]") -> T:
        nonlocal answers
        task = asyncio.current_task()
        if task is victim:
            answers += 1
            if answers == nth:
                pending.add_done_callback(lambda _: victim.cancel())
        return await within(seconds, pending)

    async def take() -> None:
        async with cache.turn_to_reconcile():
            await asyncio.sleep(0)

    monkeypatch.setattr(database_module, "_within", cancelled)
    victim = asyncio.create_task(take())
    with suppress(asyncio.CancelledError):
        await victim

    async with (
        Database(database_url, timeout=10) as database,
        Cache(database, "ours").turn_to_reconcile() as turn,
    ):
        assert turn is not None


async def test_who_waits_for_a_row_does_not_take_the_server_for_dead(
    cache: Cache, database_url: str
) -> None:
    await cache.apply(change(A, "x.md", anew=True), expected=None)
    async with (
        Database(database_url, timeout=2) as database,
        cache.database.transaction() as large,
    ):
        await large.run(text("UPDATE sessions SET title = 'x'"))
        with pytest.raises(CacheUnavailable, match="LockNotAvailable"):
            await Cache(database, "ours").keep(
                {"x.md": (blob_oid(A.encode()), A)}, until=datetime.now(UTC)
            )
        assert not database.is_down


async def test_no_word_of_a_document_is_in_the_log(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL quotes the row that it refuses."""
    async with cache.database.transaction() as connection:
        await connection.run(text("ALTER TABLE sessions ADD CONSTRAINT no CHECK (title = '')"))
    with pytest.raises(CacheUnavailable) as raised:
        await cache.apply(change("canary", "x.md", anew=True), expected=None)
    assert "CheckViolationError" in caplog.text
    assert "canary" not in caplog.text + str(raised.value)


async def test_a_repair_takes_back_nothing_of_when_the_head_was_seen(cache: Cache) -> None:
    await cache.apply(change(A, anew=True), expected=None)
    later = SEEN + timedelta(minutes=5)
    assert await cache.seen(CachedHead(A, later))
    assert await cache.apply(change(A, "x.md"), expected=A)
    async with cache.snapshot() as snapshot:
        assert snapshot.head == CachedHead(A, later)


async def test_the_head_itself_is_reached_and_of_an_empty_cache_nothing_is(cache: Cache) -> None:
    await cache.apply(change(A, anew=True), expected=None)
    async with cache.database.transaction() as connection:
        await connection.run(text("DELETE FROM applied_commits"))
    assert await ledger(cache) == {A}
    await cache.apply(change(B), expected=A)
    await cache.empty()
    assert await ledger(cache) == set()


async def test_a_cache_is_not_emptied_while_a_change_is_applied(cache: Cache) -> None:
    """The change would note its head after ours was deleted, and nothing be built anew."""
    await cache.apply(change(A, "x.md", anew=True), expected=None)
    async with cache.database.transaction() as other:
        await other.rows(text("SELECT pg_advisory_xact_lock(:lock)").bindparams(lock=_APPLY_LOCK))
        emptying = asyncio.create_task(cache.empty())
        await asyncio.sleep(0.1)
        assert not emptying.done()
    await emptying
    async with cache.snapshot() as snapshot:
        assert snapshot.head is None


# Failures


@pytest.fixture
async def mortal(server: Postgres) -> AsyncIterator[Cache]:
    """A cache in a PostgreSQL that may be killed, emptied before each test."""
    await migrate(server.url)
    async with Database(server.url, timeout=3) as database:
        cache = Cache(database, "ours")
        async with database.transaction() as connection:
            for table in ("sessions", "directories", "head", "applied_commits"):
                await connection.run(text(f"DELETE FROM {table}"))  # noqa: S608
        yield cache


async def test_a_change_cancelled_anywhere_is_whole_or_absent(mortal: Cache) -> None:
    paths = [f"{i}.md" for i in range(3)]
    await mortal.apply(change(A, *paths, anew=True), expected=None)
    head = A
    for ticks in range(0, 90, 3):
        commit = f"{ticks:040}"
        task = asyncio.create_task(mortal.apply(change(commit, *paths), expected=head))
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        found, titles, directories = await state(mortal)
        assert found in {head, commit}
        assert (titles, directories) == (dict.fromkeys(paths, found), {"": found})
        head = found


async def test_a_server_killed_in_the_middle_leaves_the_old_or_the_new_index(
    mortal: Cache, server: Postgres
) -> None:
    paths = [f"{i:05}.md" for i in range(3_000)]
    await mortal.apply(change(A, *paths, anew=True), expected=None)
    sent = mortal.database.statements
    task = asyncio.create_task(mortal.apply(change(B, *paths), expected=A))
    await until(lambda: mortal.database.statements >= sent + 6)
    await server.kill()
    with pytest.raises(CacheUnavailable):
        await task
    await server.start()
    await until(lambda: not mortal.database.is_down)
    assert await state(mortal) == (A, dict.fromkeys(paths, A), {"": A})
    assert await mortal.apply(change(B, *paths), expected=A)


async def test_what_was_done_is_written_down(cache: Cache) -> None:
    now = datetime.now(UTC)
    await cache.log(SyncRow(kind="sync", started_at=now, seconds=0.5, commit=A, added=3))
    for drifted in (2, 0):
        await cache.log(
            HealthCheckRow(
                checked_at=now,
                seconds=1.5,
                commit=A,
                requests=1,
                documents=9,
                bodies=8,
                wrong_trees=0,
                drift={"missing": drifted},
                drifted=drifted,
                repaired=0,
                consistency=1,
            )
        )
    async with cache.snapshot() as snapshot:
        check = await snapshot.last_health_check()
    assert check is not None
    assert (check.documents, check.drifted) == (9, 0)
