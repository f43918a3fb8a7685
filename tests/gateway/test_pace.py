"""How often commits are sent: below GitHub's limits whatever comes, and nobody waits for long."""

from hypothesis import given
from hypothesis import strategies as st

from api.gateway.pace import Pace

MINUTE, HOUR = 60.0, 3600.0


def most_within(times: list[float], seconds: float) -> int:
    return max(sum(start <= t < start + seconds for t in times) for start in times)


@given(st.lists(st.floats(0, 90), max_size=700))
def test_below_80_a_minute_and_500_an_hour_whatever_comes(gaps: list[float]) -> None:
    pace, now, sent = Pace(), 1000.0, []
    for gap in gaps:
        now += gap
        now += pace.wait(now)
        pace.take(now)
        sent.append(now)

    if sent:
        assert most_within(sent, MINUTE) < 80
        assert most_within(sent, HOUR) < 500


def test_a_flood_is_below_the_limits_and_makes_nobody_wait_for_more_than_eight_seconds() -> None:
    pace, now, sent, waits = Pace(), 0.0, [], []
    while now < 2 * HOUR:
        waits.append(pace.wait(now))
        now += waits[-1]
        pace.take(now)
        sent.append(now)

    assert most_within(sent, MINUTE) < 80
    assert 400 < most_within(sent, HOUR) < 500
    assert max(waits) <= 8.001


def test_the_first_commits_after_a_quiet_time_do_not_wait() -> None:
    pace = Pace()

    for _ in range(18):
        assert pace.wait(50.0) == 0
        pace.take(50.0)

    assert 0 < pace.wait(50.0) <= 1


def test_what_github_asks_for_is_waited_for() -> None:
    pace = Pace()

    pace.block(130.0)
    pace.block(110.0)

    assert pace.wait(100.0) == 30
    assert pace.wait(130.0) == 0
