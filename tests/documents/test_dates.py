from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.documents.dates import find_moment, instant, moment_in_name, read_clock, read_moment

MOSCOW = timezone(timedelta(hours=3))


@pytest.mark.parametrize(
    ("written", "day", "clock"),
    [
        ("October 20, 2025", date(2025, 10, 20), None),
        ("October 20, 2025 (Evening)", date(2025, 10, 20), None),
        ("Oct. 20th, 2025", date(2025, 10, 20), None),
        ("Monday, October 20, 2025 at 8 PM", date(2025, 10, 20), time(20, 0)),
        ("20th of October 2025", date(2025, 10, 20), None),
        ("20-Oct-2025", date(2025, 10, 20), None),
        ("Sept 3, 2025", date(2025, 9, 3), None),
        ("Oct 22, 2025, 20:52", date(2025, 10, 22), time(20, 52)),
        ("11.10.2025", date(2025, 10, 11), None),
        ("11.10.2025, 13:32", date(2025, 10, 11), time(13, 32)),
        ("04.11.25", date(2025, 11, 4), None),
        ("4 ноября 2025", date(2025, 11, 4), None),
        ("4 ноября 2025 г., 14:30 МСК", date(2025, 11, 4), time(14, 30, tzinfo=MOSCOW)),
        ("4-го ноября 2025 года в 14:30", date(2025, 11, 4), time(14, 30)),
        ("2025-10-20", date(2025, 10, 20), None),
        ("2025/10/20", date(2025, 10, 20), None),
        ("20251020", date(2025, 10, 20), None),
        ("2025-10-30 14:05", date(2025, 10, 30), time(14, 5)),
        ("2025-10-20T14:30:00Z", date(2025, 10, 20), time(14, 30, tzinfo=UTC)),
        (
            "2025-10-23T10:54:58.508Z",
            date(2025, 10, 23),
            time(10, 54, 58, 508_000, tzinfo=UTC),
        ),
        ("2025-10-20T14:30:00+03:00", date(2025, 10, 20), time(14, 30, tzinfo=MOSCOW)),
        ("2025-10-20 14:30:00 +0300", date(2025, 10, 20), time(14, 30, tzinfo=MOSCOW)),
        ("13/10/2025", date(2025, 10, 13), None),
        # A time in a zone that cannot be named is not used; the day stands.
        ("11.10.2025, 22:10 Cyprus", date(2025, 10, 11), None),
        ("2025-10-20T14:30 Cyprus", date(2025, 10, 20), None),
        # A time that does not exist takes nothing from the day.
        ("2025-10-20 25:00", date(2025, 10, 20), None),
    ],
)
def test_a_date_is_read_in_its_one_meaning(written: str, day: date, clock: time | None) -> None:
    assert read_moment(written) == (day, clock)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "yesterday",
        "вчера",
        "May 2025",
        "октябрь 2025",
        "2025",
        "5 May",
        "20 октября",
        "Market 20, 2025",
        "11/10/2025",  # October or November
        "October 20-22, 2025",
        "2025-10-20 or 21",
        "32.10.2025",
        "29.02.2025",
        "2025-13-01",
        "v1.10.2025",
        "192.0.2.1",
        "in 3 days",
        "22:10 Cyprus",
        "x" * 1_000 + "2025-10-20",
    ],
)
def test_what_has_no_one_meaning_is_absent_never_invented(written: str) -> None:
    assert read_moment(written) is None


@pytest.mark.parametrize(
    ("written", "clock"),
    [
        ("23:48 UTC", time(23, 48, tzinfo=UTC)),
        ("23:48 (UTC)", time(23, 48, tzinfo=UTC)),
        ("~18:30-19:00", time(18, 30)),
        ("~21:00", time(21, 0)),
        ("около 9:05", time(9, 5)),
        ("8:05 pm", time(20, 5)),
        ("12 am", time(0, 0)),
        ("20:52:07.5", time(20, 52, 7, 500_000)),
        ("22:10 (Evening)", time(22, 10)),
        ("7:30 утра", time(7, 30)),
        ("12:30 UTC+5:30", time(12, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))),
        ("22:10 Cyprus", None),
        ("22:10 (Cyprus)", None),
        ("Cyprus Time (Evening)", None),
        ("Late evening", None),
        ("13 pm", None),
        ("24:00", None),
        ("20", None),
    ],
)
def test_a_time_of_day_is_read_whole_or_not_at_all(written: str, clock: time | None) -> None:
    assert read_clock(written) == clock


@pytest.mark.parametrize(
    ("heading", "day", "clock"),
    [
        ("JEAN CLAUDE AUTOSAVE - 2025-08-12 14:20", date(2025, 8, 12), time(14, 20)),
        ("SESSION SAVE - October 19, 2025 - EVENING", date(2025, 10, 19), None),
        ("04.11.25v1 - КОНТЕКСТ ВОССТАНОВЛЕН", date(2025, 11, 4), None),
        ("Saved 2025-08-12 14:20 Cyprus", date(2025, 8, 12), None),
        ("Saved October 20, 2025 at 20:52", date(2025, 10, 20), time(20, 52)),
    ],
)
def test_a_heading_tells_its_date(heading: str, day: date, clock: time | None) -> None:
    assert find_moment(heading) == (day, clock)


@pytest.mark.parametrize(
    "heading",
    ["From 2025-08-12 to 2025-08-14", "n8n 10.11.25 is out", "Haiku 4.5", "Host 192.0.2.1", ""],
)
def test_a_heading_with_several_days_or_only_numbers_tells_none(heading: str) -> None:
    assert find_moment(heading) is None


@pytest.mark.parametrize(
    ("stem", "day", "clock"),
    [
        ("autosave_2025-10-20_slug", date(2025, 10, 20), None),
        ("autosave_2025-10-20_2024-in-review", date(2025, 10, 20), None),
        ("jean-claude-autosave-20250812-1420", date(2025, 8, 12), time(14, 20)),
        ("jean-claude-autosave-20250815T0950", date(2025, 8, 15), time(9, 50)),
        ("backup-20250815T095030Z", date(2025, 8, 15), time(9, 50, 30)),
        ("claude-2025-09-28-slug", date(2025, 9, 28), None),
        ("SESSION-END-2025-10-17", date(2025, 10, 17), None),
        ("notes 11.10.2025", date(2025, 10, 11), None),
    ],
)
def test_a_file_name_tells_its_date(stem: str, day: date, clock: time | None) -> None:
    assert moment_in_name(stem) == (day, clock)


@pytest.mark.parametrize("stem", ["session-success-oct22", "x-20251399", "123456789012", ""])
def test_a_file_name_without_a_whole_date_tells_none(stem: str) -> None:
    assert moment_in_name(stem) is None


def test_a_moment_outside_of_the_calendar_is_absent() -> None:
    west = timezone(-timedelta(hours=5))
    assert instant(date(9999, 12, 31), time(23, 0, tzinfo=west)) is None
    assert instant(date(2025, 1, 1), None) == datetime(2025, 1, 1, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_iso_moment_reads_as_itself(moment: datetime) -> None:
    read = read_moment(moment.isoformat())
    assert read is not None
    assert read.day is not None
    assert instant(read.day, read.clock) == moment


@given(st.text(max_size=120))
def test_no_text_makes_the_readers_fail(text: str) -> None:
    read_moment(text)
    find_moment(text)
    moment_in_name(text)
