"""The jobs: what they leave in the log, what is tried again, and what only has to wait."""

import logging
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from arq.connections import ArqRedis
from sqlalchemy import select
from sqlmodel import col

import workers.tasks
import workers.worker
from api.cache.runs import Runs
from api.cache.tables import HealthCheckRow, SyncRow, WorkerRow
from api.cache.workers import Workers
from api.jobs import HEALTH_CHECK, QUEUE, RETENTION, SYNC
from api.wiring import Parts, open_parts
from sandbox.github import Fault, GitHub
from sandbox.redis import Redis
from tests.clone import Clone
from tests.waiting import until
from tests.workers.conftest import at_work, settings_of, syncs
from workers.tasks import Ended, Failed, health_check, retention, sync


def runs_of(parts: Parts) -> Runs:
    return Runs(parts.reconciler.cache.database)


async def queued(queue: ArqRedis) -> int:
    return int(await queue.zcard(QUEUE))


# The log


async def test_a_sync_is_logged_with_what_it_did_and_what_it_cost(
    parts: Parts, github: GitHub, clone: Clone
) -> None:
    await parts.reconciler.run()
    clone.push({"autosaves/new.md": "# New\n"})
    github.requests.clear()

    assert await sync(parts) is Ended.DONE

    [run] = await syncs(parts)
    assert (run.added, run.changed, run.removed, run.error) == (1, 0, 0, None)
    assert run.commit == github.head
    assert run.requests == len(github.requests)
    assert run.seconds > 0


async def test_a_sync_that_finds_nothing_to_do_is_not_logged(parts: Parts) -> None:
    await parts.reconciler.run()

    assert await sync(parts) is Ended.DONE

    assert await syncs(parts) == []


async def test_a_failed_sync_is_logged_with_its_error_and_what_it_had_spent(
    parts: Parts, github: GitHub
) -> None:
    github.faults.add(Fault(kind="bad_credentials", operation_name="Trees", count=None))

    assert await sync(parts) == Failed()

    [run] = await syncs(parts)
    assert run.error_class == "AccessRefused"
    assert run.error is not None
    assert run.requests == len(github.requests) == 2


async def test_a_sync_that_is_stuck_is_ended_and_logged(
    parts: Parts, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.tasks, "SYNC_SECONDS", 0.3)
    github.faults.add(Fault(kind="hang"))

    assert await sync(parts) == Failed()

    [run] = await syncs(parts)
    assert run.error_class == "Stuck"
    assert run.requests == 1


async def test_an_error_that_nobody_foresaw_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken() -> Ended:
        raise ZeroDivisionError

    assert await workers.worker._end_of(SYNC, broken()) == Failed()
    assert "ZeroDivisionError" in caplog.text


async def test_a_limit_of_githubs_is_waited_for(parts: Parts, github: GitHub) -> None:
    github.faults.add(Fault(kind="secondary_rate_limit", retry_after=77, count=None))

    ended = await sync(parts)

    assert isinstance(ended, Failed)
    assert 0 < ended.after <= 77


# Others are at it


async def test_while_another_reconciles_a_job_has_not_failed(parts: Parts) -> None:
    hasty = parts.settings.model_copy(update={"database_timeout_seconds": 0.5})
    async with (
        open_parts(hasty) as others,
        parts.reconciler.cache.turn_to_reconcile(),
    ):
        assert await sync(others) is Ended.NOT_NOW
        assert await health_check(others) is Ended.NOT_NOW

    for kind in (SYNC, HEALTH_CHECK):
        assert await runs_of(parts).latest(kind, first=10) == []


async def test_who_could_not_sync_looks_again_until_it_can(
    parts: Parts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.worker, "NOT_NOW_SECONDS", 0.5)
    caplog.set_level(logging.INFO, "workers.tasks")
    hasty = parts.settings.model_copy(update={"database_timeout_seconds": 0.5})

    def busy() -> int:
        return sum("BUSY" in record.getMessage() for record in caplog.records)

    async def looked_often() -> bool:
        return busy() > workers.worker.TRIES

    async def filled() -> bool:
        async with parts.reconciler.cache.snapshot() as snapshot:
            return snapshot.head is not None

    async with AsyncExitStack() as turn:
        await turn.enter_async_context(parts.reconciler.cache.turn_to_reconcile())
        async with at_work(hasty):
            await until(looked_often, "the worker looks more often than it tries what fails")
            await turn.aclose()
            await until(filled, "the cache is filled")

    assert [run.error for run in await syncs(parts)] in ([], [None])  # or the check filled it


async def test_after_a_sync_that_took_long_the_worker_looks_once_more(
    github: GitHub, database_url: str, redis: Redis, queue: ArqRedis
) -> None:
    github.faults.add(Fault(kind="latency", ms=1_500, operation_name="Trees"))
    settings = settings_of(github, database_url, REDIS_URL=redis.url, DATABASE_TIMEOUT_SECONDS="1")
    async with open_parts(settings) as parts:
        assert await sync(parts) is Ended.DONE

        assert await queued(queue) == 1


async def test_after_a_quick_sync_it_does_not(parts: Parts, queue: ArqRedis) -> None:
    assert await sync(parts) is Ended.DONE

    assert await queued(queue) == 0


# Tries


async def test_what_fails_is_tried_three_times(
    github: GitHub, parts: Parts, queue: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.worker, "RETRY_SECONDS", 0.1)
    await github.stop()

    async with at_work(parts.settings):

        async def given_up() -> bool:
            checks = await runs_of(parts).latest(HEALTH_CHECK, first=10)
            return len(checks) >= 3 and await queued(queue) == 0

        await until(given_up, "nothing is left to be tried")

        assert len(await syncs(parts)) == 3
        assert len(await runs_of(parts).latest(HEALTH_CHECK, first=10)) == 3


# Retention


async def test_the_log_is_kept_for_a_year_and_a_lost_worker_for_a_week(parts: Parts) -> None:
    cache, now = parts.reconciler.cache, datetime.now(UTC)
    for days in (1, 364, 366):
        at = now - timedelta(days=days)
        await cache.log(SyncRow(kind=SYNC, started_at=at, seconds=1))
        await cache.log(
            HealthCheckRow(
                checked_at=at,
                seconds=1,
                commit="c",
                requests=1,
                documents=days,
                bodies=1,
                drift={},
                drifted=0,
                wrong_trees=0,
                repaired=0,
                consistency=1,
            )
        )
    for days in (1, 6, 8):
        at = now - timedelta(days=days)
        await Workers(cache.database).beat(WorkerRow(name=f"{days}", started_at=at, seen_at=at))

    assert await retention(parts) is Ended.DONE

    kept = [(now - run.started_at).days for run in await syncs(parts)]
    assert kept == [364, 1]
    assert [worker.name for worker in await Workers(cache.database).known()] == ["1", "6"]
    async with cache.database.transaction() as connection:
        rows = await connection.rows(select(col(HealthCheckRow.documents)))
    assert sorted(row["documents"] for row in rows) == [1, 364]


async def test_when_retention_last_ran_is_known(parts: Parts) -> None:
    before = datetime.now(UTC)
    assert await runs_of(parts).last_done(RETENTION) is None

    assert await retention(parts) is Ended.DONE

    done = await runs_of(parts).last_done(RETENTION)
    assert done is not None
    assert done >= before
