"""People are told once when an incident begins and once when it is over, whatever happens."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

import workers.people
import workers.worker
from api.cache.database import CacheUnavailable
from api.cache.incidents import Incident, Incidents
from api.cache.tables import HealthCheckRow
from api.jobs import SYNC
from api.settings import SettingsError
from api.wiring import Parts, open_parts
from sandbox.github import GitHub
from sandbox.postgres import Postgres
from sandbox.redis import Redis
from tests.waiting import until
from tests.workers.conftest import Inbox, at_work, settings_of, syncs
from workers.alerts import Kind, alert
from workers.people import People

HEALTHY, DRIFTED = 1.0, 0.5


async def checked(parts: Parts, consistency: float) -> None:
    """A health check was done: the incident that is easiest to begin and to end."""
    await parts.reconciler.cache.log(
        HealthCheckRow(
            checked_at=datetime.now(UTC),
            seconds=1,
            commit="c" * 40,
            requests=1,
            documents=2,
            bodies=2,
            drift={},
            drifted=0,
            wrong_trees=0,
            repaired=0,
            consistency=consistency,
        )
    )


async def standing(parts: Parts) -> dict[str, Incident]:
    return await Incidents(parts.reconciler.cache.database).standing()


@pytest.fixture
async def people(inbox: Inbox) -> People:
    return People([SecretStr(inbox.url)])


@pytest.fixture
async def other_parts(parts: Parts) -> AsyncIterator[Parts]:
    """Those of a second worker."""
    async with open_parts(parts.settings) as opened:
        yield opened


async def test_people_are_told_once_when_it_begins_and_once_when_it_is_over(
    parts: Parts, other_parts: Parts, inbox: Inbox, people: People
) -> None:
    await checked(parts, DRIFTED)
    for _ in range(3):
        await asyncio.gather(alert(parts, people), alert(other_parts, people))
    assert inbox.titles == [f"annoris/documents: {Kind.DRIFT}"]

    await checked(parts, HEALTHY)
    for _ in range(3):
        await asyncio.gather(alert(parts, people), alert(other_parts, people))
    assert inbox.titles[1:] == [f"annoris/documents: over: {Kind.DRIFT}"]
    assert [notice["type"] for notice in inbox.notices] == ["warning", "success"]
    assert await standing(parts) == {}

    await checked(parts, DRIFTED)
    await alert(parts, people)
    assert len(inbox.notices) == 3, "another incident"


async def test_a_notice_says_since_when(parts: Parts, inbox: Inbox, people: People) -> None:
    await checked(parts, DRIFTED)

    await alert(parts, people)

    since = (await standing(parts))[Kind.DRIFT].since
    assert f"Since {since:%Y-%m-%d %H:%M} UTC" in inbox.notices[0]["message"]


async def test_what_could_not_be_sent_is_sent_the_next_time(
    parts: Parts, inbox: Inbox, people: People, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for consistency in (DRIFTED, HEALTHY):
        await checked(parts, consistency)
        already = len(inbox.notices)
        inbox.refuses = True
        await alert(parts, people)
        assert len(inbox.notices) == already
        assert "did not reach URL 1 of ALERT_URLS" in caplog.text
        inbox.refuses = False
        for _ in range(2):
            await alert(parts, people)
        assert len(inbox.notices) == already + 1

    assert "canary" not in caplog.text, "the URL holds a password"


async def test_one_who_is_reached_is_enough(
    parts: Parts, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    people = People([SecretStr("json://127.0.0.1:1/canary"), SecretStr(inbox.url)])
    await checked(parts, DRIFTED)

    for _ in range(2):
        await alert(parts, people)

    assert len(inbox.notices) == 1
    assert caplog.text.count("did not reach URL 1 of ALERT_URLS") == 1


async def test_who_was_never_told_that_it_began_does_not_hear_that_it_is_over(
    parts: Parts, inbox: Inbox, people: People
) -> None:
    await checked(parts, DRIFTED)
    inbox.refuses = True
    await alert(parts, people)
    await checked(parts, HEALTHY)
    inbox.refuses = False

    await alert(parts, people)

    assert inbox.notices == []
    assert await standing(parts) == {}


async def test_what_begins_again_before_people_heard_that_it_was_over_went_on(
    parts: Parts, inbox: Inbox, people: People
) -> None:
    await checked(parts, DRIFTED)
    await alert(parts, people)
    await checked(parts, HEALTHY)
    inbox.refuses = True
    await alert(parts, people)
    inbox.refuses = False
    await checked(parts, DRIFTED)

    await alert(parts, people)

    assert len(inbox.notices) == 1


async def test_one_that_is_mute_is_not_waited_for(
    parts: Parts, inbox: Inbox, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.people, "SECONDS", 0.2)
    thaw = asyncio.Event()

    async def hang() -> None:
        await thaw.wait()

    inbox.before_answer = hang
    await checked(parts, DRIFTED)

    await alert(parts, people)

    assert (await standing(parts))[Kind.DRIFT].told_at is None
    thaw.set()


async def test_while_one_tells_no_other_does(
    parts: Parts, other_parts: Parts, inbox: Inbox, people: People
) -> None:
    await checked(parts, DRIFTED)
    inbox.before_answer = lambda: alert(other_parts, people)

    await alert(parts, people)

    assert len(inbox.notices) == 1


async def test_a_notice_that_was_sent_and_not_noted_is_repeated_once(
    github: GitHub, postgres: Postgres, inbox: Inbox, people: People
) -> None:
    async with open_parts(settings_of(github, postgres.url)) as parts:
        await checked(parts, DRIFTED)
        inbox.before_answer = postgres.kill
        with pytest.raises(CacheUnavailable):
            await alert(parts, people)
        inbox.before_answer = None
        await postgres.start()

        async def back() -> bool:
            return not parts.reconciler.cache.database.is_down

        await until(back, "PostgreSQL is back")
        for _ in range(3):
            await alert(parts, people)

    assert len(inbox.notices) == 2


async def test_without_alert_urls_incidents_are_logged(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "workers.alerts")
    people = People([])
    for consistency in (DRIFTED, HEALTHY):
        await checked(parts, consistency)
        for _ in range(2):
            await alert(parts, people)

    begun, over = [r for r in caplog.records if r.name == "workers.alerts"]
    assert (begun.levelname, over.levelname) == ("WARNING", "INFO")
    assert str(Kind.DRIFT) in begun.getMessage()


async def test_the_cache_is_too_old_after_its_limit_and_a_sync_interval(
    parts: Parts, inbox: Inbox, people: People
) -> None:
    await parts.reconciler.run()
    now = datetime.now(UTC)

    await alert(parts, people, now=now + timedelta(minutes=119))
    assert inbox.notices == []
    await alert(parts, people, now=now + timedelta(minutes=121))

    assert inbox.titles == [f"annoris/documents: {Kind.CACHE_TOO_OLD}"]


async def test_an_incident_of_another_version_is_left_alone(parts: Parts, people: People) -> None:
    strange = Incident(kind="from the future", since=datetime.now(UTC), message="?")
    await Incidents(parts.reconciler.cache.database).begin(strange)

    await alert(parts, people)

    assert set(await standing(parts)) == {"from the future"}


def test_a_url_that_apprise_does_not_know_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match="URL 2") as error:
        People([SecretStr("json://127.0.0.1:1"), SecretStr("nonsense://canary:canary@host")])

    assert "canary" not in str(error.value)


async def test_two_workers_tell_once_that_github_is_down_and_once_that_it_is_back(
    github: GitHub,
    database_url: str,
    redis: Redis,
    inbox: Inbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers.worker, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(workers.worker, "ALERT_AT", frozenset(range(60)))
    settings = settings_of(github, database_url, REDIS_URL=redis.url, ALERT_URLS=inbox.url)
    people = People(settings.alert_urls)
    await github.stop()

    async with at_work(settings) as one, at_work(settings) as other:

        async def told(number: int) -> bool:
            return len(inbox.notices) >= number

        await until(lambda: told(1), "people are told")
        assert len(await syncs(one)) >= 3
        assert {run.error_class for run in await syncs(one)} == {"Unreachable"}
        for _ in range(2):
            await asyncio.gather(alert(one, people), alert(other, people))
        assert inbox.titles == [f"annoris/documents: {Kind.SYNC_FAILS}"]

        await github.start()
        assert await one.doorbell.ring(SYNC)
        await until(lambda: told(2), "people are told that it is over")
        for _ in range(2):
            await asyncio.gather(alert(one, people), alert(other, people))

    assert inbox.titles[1:] == [f"annoris/documents: over: {Kind.SYNC_FAILS}"]
