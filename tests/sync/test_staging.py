"""A change too large for one step is laid out aside, and takes its place all at once."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from sqlalchemy import text

from api.cache.cache import Cache
from api.cache.changing import _APPLY_LOCK
from api.cache.database import CacheUnavailable
from api.documents import PARSER_VERSION
from api.master.errors import MasterError
from api.sync.health import check_health
from api.sync.reconcile import Outcome
from sandbox.github import Fault
from tests.sync.conftest import Side
from tests.sync.oracle import EXECUTABLE, commit, rows_of

FIRST = "autosaves/0/0000.md"
MANY = 450  # documents: three steps


def files(word: str, count: int = MANY) -> dict[str | bytes, bytes]:
    return {f"autosaves/{n % 7}/{n:04}.md": b"# %d %b\n" % (n, word.encode()) for n in range(count)}


async def staged(side: Side) -> int:
    async with side.cache.database.transaction() as connection:
        [row] = await connection.rows(text("SELECT count(*) AS n FROM staged_sessions"))
        return int(row["n"])


async def build_until(side: Side, nth: int) -> asyncio.Task[object]:
    """A reconcile that waits for its nth request for bodies."""
    pause = side.github.faults.add(Fault(kind="latency", ms=4_000, operation_name="Blobs", nth=nth))
    building: asyncio.Task[object] = asyncio.create_task(side.reconciler.run())
    await pause.wait_until_struck()
    side.github.faults.clear(pause)
    return building


async def stop(building: asyncio.Task[object]) -> None:
    building.cancel()
    with suppress(asyncio.CancelledError):
        await building


async def test_a_large_build_is_the_master_and_leaves_nothing_staged(side: Side) -> None:
    commit(side.repository, files("one"))
    report = await side.sync()
    assert (report.outcome, report.added) == (Outcome.APPLIED, 10 + MANY)
    # A hundred a request, as many as a step holds: 200, 200, and 60.
    assert side.asked.count("Blobs") == 2 + 2 + 1
    await side.check()
    assert await staged(side) == 0


async def test_readers_see_the_old_index_until_they_see_the_new_one(side: Side) -> None:
    first = commit(side.repository, files("one"))
    await side.build()
    commit(side.repository, files("two") | {"autosaves/0/0000.md": None})

    building = await build_until(side, 5)
    assert await staged(side) > 0
    await side.check(first)
    await stop(building)
    await side.check(first)

    await side.build()
    await side.check()


async def test_before_the_first_build_is_whole_there_is_no_cache(side: Side) -> None:
    commit(side.repository, files("one"))
    building = await build_until(side, 5)
    async with side.cache.snapshot() as snapshot:
        assert snapshot.head is None
    assert await rows_of(side.cache) == {}
    await stop(building)


async def test_what_was_read_before_a_crash_is_not_read_again(side: Side) -> None:
    commit(side.repository, files("one"))
    await stop(await build_until(side, 5))
    assert await staged(side) == 400

    await side.build()

    assert side.asked.count("Blobs") == 1
    await side.check()
    assert await staged(side) == 0


async def test_a_build_that_github_broke_off_goes_on_too(side: Side) -> None:
    commit(side.repository, files("one"))
    fault = side.github.faults.add(
        Fault(kind="bad_credentials", operation_name="Blobs", nth=5, count=None)
    )
    with pytest.raises(MasterError):
        await side.sync()
    side.github.faults.clear(fault)
    await side.build()
    assert side.asked.count("Blobs") == 1
    await side.check()


async def test_what_is_not_wanted_any_more_is_not_taken_over(side: Side) -> None:
    """Documents that went away or changed since, and those that moved to another collection."""
    commit(side.repository, files("one"))
    await stop(await build_until(side, 5))
    commit(side.repository, {"autosaves/0/0000.md": None, "autosaves/1/0001.md": b"# Changed\n"})
    layout = replace(side.layout, projects=("autosaves/2", "projects"))
    other = replace(side, layout=layout, cache=Cache(side.cache.database, "other"))
    await other.build()
    await other.check()


async def test_a_file_that_became_executable_since_is_not_taken_over_as_it_was(
    side: Side,
) -> None:
    commit(side.repository, files("one"))
    await stop(await build_until(side, 5))
    commit(side.repository, {FIRST: (EXECUTABLE, files("one")[FIRST])})
    await side.build()
    await side.check()


async def test_what_was_staged_with_another_limit_is_read_again(side: Side) -> None:
    """The origin names the limit: what was too large for one is not for the other."""
    commit(side.repository, files("one"))
    other = replace(side, cache=Cache(side.cache.database, "up to 8 bytes"), max_bytes=8)
    async with side.cache.database.transaction() as connection:
        await connection.rows(text(f"SELECT pg_advisory_xact_lock({_APPLY_LOCK})"))
        assert (await other.sync()).outcome is Outcome.SUPERSEDED
    assert await staged(side) == 400
    await side.build()
    await side.check()


async def test_what_an_older_parser_staged_is_read_again(side: Side) -> None:
    commit(side.repository, files("one"))
    await stop(await build_until(side, 5))
    newer = replace(side, cache=Cache(side.cache.database, "ours", parser=PARSER_VERSION + 1))
    await newer.build()
    assert side.asked.count("Blobs") == 5, "it came from the older one's rows without bodies"
    await newer.check()
    assert await staged(side) == 0


async def test_who_lost_the_turn_applies_nothing(side: Side) -> None:
    """The lock is the connection's, and so is every write of the turn."""
    first = commit(side.repository, files("one"))
    await side.build()
    commit(side.repository, files("two"))
    building = await build_until(side, 5)
    async with side.cache.database.transaction() as connection:
        ended = text(
            "SELECT pg_terminate_backend(pid) FROM pg_locks "
            "WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        )
        assert await connection.rows(ended)
    side.github.faults.clear()
    overtaking = await replace(side).sync()
    assert overtaking.outcome is Outcome.APPLIED
    with pytest.raises(CacheUnavailable):
        await building
    await side.check()
    assert first != overtaking.commit


async def test_a_turn_that_was_cancelled_is_free_again(side: Side) -> None:
    commit(side.repository, files("one"))
    await stop(await build_until(side, 1))
    async with asyncio.timeout(5), side.cache.turn_to_reconcile() as turn:
        assert turn is not None


async def test_a_large_repair_is_staged_too(side: Side) -> None:
    commit(side.repository, files("one"))
    await side.build()
    async with side.cache.database.transaction() as connection:
        await connection.run(text("UPDATE sessions SET title = 'Other'"))
    report = await check_health(side.reconciler)
    assert len(report.drift) == 6 + MANY
    await side.check()
