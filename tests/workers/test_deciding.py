"""Which incidents there are follows from what is stored and the time, and from nothing else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cache.tables import HealthCheckRow, SyncRow, WorkerRow
from workers.alerts import Facts, Kind, decide

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TOO_OLD = timedelta(hours=2)


def ago(**amount: float) -> datetime:
    return NOW - timedelta(**amount)


def run(minutes_ago: float, error_class: str | None = None) -> SyncRow:
    error = f"{error_class} says so." if error_class else None
    return SyncRow(
        kind="sync",
        started_at=ago(minutes=minutes_ago),
        seconds=1,
        error=error,
        error_class=error_class,
    )


def down(*minutes_ago: float) -> list[SyncRow]:
    return [run(minutes, "Unreachable") for minutes in minutes_ago]


def check(consistency: float) -> HealthCheckRow:
    return HealthCheckRow(
        checked_at=ago(hours=9),
        seconds=1,
        commit="c" * 40,
        requests=1,
        documents=10_000,
        bodies=10_000,
        drift={"MISSING": 11},
        drifted=11,
        wrong_trees=0,
        repaired=11,
        consistency=consistency,
    )


def worker(
    *,
    left: int | None = None,
    reset: timedelta = timedelta(minutes=30),
    end: timedelta | None = None,
    seen: datetime = NOW,
) -> WorkerRow:
    return WorkerRow(
        name="w",
        started_at=ago(days=1),
        seen_at=seen,
        quota_limit=None if left is None else 5000,
        quota_remaining=left,
        quota_resets_at=None if left is None else NOW + reset,
        token_expires_at=None if end is None else NOW + end,
    )


WELL = Facts(syncs=[run(90)], seen_at=ago(minutes=1), check=check(1.0), workers=[worker(left=4900)])
SICK = replace(WELL, seen_at=ago(minutes=60))  # not too old yet
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(Facts(), set(), id="nothing is known"),
        pytest.param(WELL, set(), id="all is well"),
        pytest.param(replace(SICK, syncs=down(1, 2)), set(), id="two failures"),
        pytest.param(replace(SICK, syncs=down(1, 2, 3)), {Kind.SYNC_FAILS}, id="three failures"),
        pytest.param(
            Facts(syncs=down(1, 2, 3)), {Kind.SYNC_FAILS}, id="three failures before any success"
        ),
        pytest.param(Facts(syncs=down(200, 201, 202)), set(), id="empty, and failures of long ago"),
        pytest.param(
            replace(SICK, syncs=[*down(1, 2), run(3), *down(4)]), set(), id="a success in between"
        ),
        pytest.param(
            replace(SICK, syncs=[run(0), *down(1, 2, 3)]), set(), id="a success since then"
        ),
        pytest.param(
            replace(SICK, syncs=down(1, 2, 70)), set(), id="one that found nothing in between"
        ),
        pytest.param(
            replace(WELL, syncs=down(2, 3, 4)), set(), id="one that found nothing since then"
        ),
        pytest.param(replace(WELL, seen_at=ago(hours=2)), set(), id="old"),
        pytest.param(
            replace(WELL, seen_at=ago(hours=2, seconds=1)), {Kind.CACHE_TOO_OLD}, id="too old"
        ),
        pytest.param(replace(WELL, seen_at=None), set(), id="empty, and so not old"),
        pytest.param(replace(WELL, check=check(0.999)), set(), id="three nines"),
        pytest.param(replace(WELL, check=check(0.9989)), {Kind.DRIFT}, id="less than three nines"),
        pytest.param(replace(WELL, workers=[worker(left=1000)]), set(), id="a fifth is left"),
        pytest.param(
            replace(WELL, workers=[worker(left=999)]), {Kind.QUOTA_LOW}, id="less than a fifth"
        ),
        pytest.param(
            replace(WELL, workers=[worker(left=0, reset=timedelta(0))]), set(), id="it was renewed"
        ),
        pytest.param(
            replace(WELL, workers=[worker(left=4000), worker(left=9, seen=ago(minutes=5))]),
            set(),
            id="a worker that is gone was told of less",
        ),
        pytest.param(
            replace(WELL, workers=[worker(), worker(left=9, seen=ago(minutes=5))]),
            {Kind.QUOTA_LOW},
            id="one that has just started was told nothing yet",
        ),
        pytest.param(
            replace(WELL, checks=[*down(1, 2, 3), run(60)]), {Kind.CHECK_FAILS}, id="three checks"
        ),
        pytest.param(replace(WELL, checks=[*down(1, 2), run(60)]), set(), id="two checks"),
        pytest.param(
            replace(WELL, checks=[*down(*(60 * 24 * n for n in (3, 4, 5)))]),
            set(),
            id="checks of days ago",
        ),
        pytest.param(replace(WELL, workers=[worker(end=8 * DAY)]), set(), id="a week and a day"),
        pytest.param(
            replace(WELL, workers=[worker(end=7 * DAY)]), {Kind.TOKEN_EXPIRES}, id="a week"
        ),
        pytest.param(
            replace(WELL, workers=[worker(end=-DAY)]), {Kind.TOKEN_EXPIRES}, id="it has ended"
        ),
        pytest.param(
            replace(WELL, workers=[worker(), worker(end=DAY, seen=ago(minutes=5))]),
            {Kind.TOKEN_EXPIRES},
            id="a worker that has just started knows nothing of it yet",
        ),
        pytest.param(
            replace(WELL, workers=[worker(left=4900), worker(end=DAY, seen=ago(minutes=5))]),
            set(),
            id="a new token without an end",
        ),
        pytest.param(
            replace(SICK, syncs=[run(1, "AccessRefused")]), {Kind.TOKEN_REFUSED}, id="refused"
        ),
        pytest.param(
            replace(SICK, syncs=[*down(1), run(2, "AccessRefused")]),
            {Kind.TOKEN_REFUSED},
            id="what fails otherwise does not show that the token is good",
        ),
        pytest.param(
            replace(WELL, syncs=[run(2, "AccessRefused")]), set(), id="taken again since then"
        ),
    ],
)
def test_what_is_stored_tells_which_incidents_there_are(facts: Facts, expected: set[Kind]) -> None:
    assert set(decide(facts, NOW, too_old=TOO_OLD)) == expected


def test_everything_can_be_wrong_at_once() -> None:
    facts = Facts(
        syncs=[run(1, "AccessRefused"), *down(2, 3)],
        checks=down(5, 6, 7),
        seen_at=ago(days=2),
        check=check(0.5),
        workers=[worker(left=1, end=DAY)],
    )

    found = decide(facts, NOW, too_old=TOO_OLD)

    assert set(found) == set(Kind)
    assert found[Kind.SYNC_FAILS].since == ago(minutes=3)
    assert found[Kind.CACHE_TOO_OLD].since == ago(days=2) + TOO_OLD
    assert found[Kind.TOKEN_REFUSED].since == ago(minutes=1)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Kind.SYNC_FAILS, ["3 syncs", "AccessRefused says so.", "annoris sync"]),
        (Kind.CHECK_FAILS, ["3 health checks", "annoris health-check", "annoris rebuild"]),
        (Kind.CACHE_TOO_OLD, ["2026-11-18 12:00 UTC", "annoris sync"]),
        (Kind.DRIFT, ["11 of 10000", "11 MISSING", "annoris health-check"]),
        (Kind.QUOTA_LOW, ["1 of 5000", "2026-11-20 12:30 UTC"]),
        (Kind.TOKEN_EXPIRES, ["2026-11-21 12:00 UTC", "GITHUB_TOKEN"]),
        (Kind.TOKEN_REFUSED, ["GITHUB_TOKEN", "annoris status"]),
    ],
)
def test_a_message_says_what_is_wrong_and_what_to_do(kind: Kind, words: list[str]) -> None:
    facts = Facts(
        syncs=[run(1, "AccessRefused"), *down(2, 3)],
        checks=down(5, 6, 7),
        seen_at=ago(days=2),
        check=check(0.5),
        workers=[worker(left=1, end=DAY)],
    )

    message = decide(facts, NOW, too_old=TOO_OLD)[kind].message

    assert all(word in message for word in words), message


def test_a_very_long_error_does_not_make_a_very_long_message() -> None:
    syncs = down(1, 2, 3)
    syncs[0].error = "x" * 100_000

    assert len(decide(Facts(syncs=syncs), NOW, too_old=TOO_OLD)[Kind.SYNC_FAILS].message) < 1000


@given(st.lists(st.sampled_from(["failed", "applied", "unchanged"]), max_size=12))
def test_a_sync_fails_when_the_last_three_failed_however_the_others_ended(story: list[str]) -> None:
    rows, seen_at = list[SyncRow](), None
    for minutes, outcome in zip(range(len(story), 0, -1), story, strict=True):
        if outcome == "unchanged":
            seen_at = ago(minutes=minutes)
        else:
            rows.insert(0, run(minutes, "Unreachable" if outcome == "failed" else None))
    in_a_row = next((n for n, o in enumerate(reversed(story)) if o != "failed"), len(story))

    found = decide(Facts(syncs=rows, seen_at=seen_at), NOW, too_old=TOO_OLD)

    assert (Kind.SYNC_FAILS in found) == (in_a_row >= 3)
    if in_a_row >= 3:
        assert found[Kind.SYNC_FAILS].since == ago(minutes=in_a_row)
