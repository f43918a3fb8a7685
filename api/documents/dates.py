"""Dates and times as people write them, in English and Russian.

A part that is not written is never guessed. General date parsers do guess: they take
`11/10/2025` for October 11, `(Evening)` for 18:00 and `October 20-22` for the 20th. Here a
value is read only where it has one meaning:

* a dotted date is day first, also with a year of two digits (`04.11.25` is in 2025);
* a date with slashes counts only where day and month cannot be confused;
* a time without a zone is UTC; a time in a zone that has no fixed offset here
  (`22:10 Cyprus`) is not used, and only the day remains;
* of a range (`~18:30-19:00`) the beginning counts.
"""

import re
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import NamedTuple

MAX_LENGTH = 100  # characters; a longer text is prose


class Moment(NamedTuple):
    """What a text tells of a point in time: a day, a time of day, or both.

    `clock` without a zone means that none was written.
    """

    day: date | None
    clock: time | None


def instant(day: date, clock: time | None) -> datetime | None:
    """The moment in UTC; midnight without a clock. None outside the years 1 to 9999."""
    written = datetime.combine(day, clock or time.min)
    with suppress(OverflowError):
        return written.astimezone(UTC) if written.tzinfo else written.replace(tzinfo=UTC)
    return None


def read_moment(text: str) -> Moment | None:
    """What a value such as `11.10.2025, 13:32` or `~21:00` tells, or None."""
    text = text.strip()
    if not 0 < len(text) <= MAX_LENGTH:
        return None
    if _ISO.match(text):
        with suppress(ValueError):
            exact = datetime.fromisoformat(text)
            return Moment(exact.date(), exact.timetz())
    text = _WEEKDAY.sub("", text, count=1)
    found = _DATE.match(text)
    if found is None:
        clock = read_clock(text)
        return Moment(None, clock) if clock else None
    day = _day(found)
    rest = text[found.end() :]
    clock = _clock_after(rest)
    if day is None or not (clock or _RESIDUE.fullmatch(_TIME_OF_DAY.sub(" ", rest, count=1))):
        return None
    return Moment(day, clock)


def find_moment(text: str) -> Moment | None:
    """The date somewhere in a heading, with the time right behind it.

    None if there are several days. A year of two digits counts only at the beginning,
    where it cannot be a version number.
    """
    found = [
        (day, match)
        for match in _DATE.finditer(text[:1_000])
        if (day := _day(match))
        and (match["dot_year"] is None or len(match["dot_year"]) == 4 or _leads(text, match))
    ]
    if len({day for day, _ in found}) != 1:
        return None
    day, match = found[0]
    return Moment(day, _clock_after(_HEADING_PART.split(text[match.end() :].lstrip(" ,"))[0]))


def moment_in_name(stem: str) -> Moment | None:
    """The date in a file name without its extension, e.g. `jean-claude-autosave-20250812-1420`."""
    for match in _NAME.finditer(stem[:300]):
        with suppress(ValueError):
            day = date(int(match["year"]), int(match["month"]), int(match["day"]))
            return Moment(day, _name_clock(match))
    return find_moment(stem.replace("_", " "))


def read_clock(text: str) -> time | None:
    """A time of day such as `23:48 UTC` or `8:05 pm`; None if any part of it is not understood."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None or not (match["minute"] or match["half"]):
        return None
    hour = int(match["hour"])
    if match["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match["half"][0] in "pP" else 0)
    zone = _zone(match["zone"]) if match["zone"] else None
    if match["zone"] and zone is None:
        return None
    with suppress(ValueError):
        return time(
            hour,
            int(match["minute"] or 0),
            int(match["second"] or 0),
            int((match["fraction"] or "0")[:6].ljust(6, "0")),
            tzinfo=zone,
        )
    return None


def _day(match: re.Match[str]) -> date | None:
    """The day that a match of _DATE names; None if there is no such day, or more than one."""
    part = match.groupdict()
    year = part["iso_year"] or part["dot_year"] or part["slash_year"] or part["year"]
    if part["compact"]:
        numbers = part["compact"][:4], part["compact"][4:6], part["compact"][6:]
    elif part["iso_year"]:
        numbers = year, part["iso_month"], part["iso_day"]
    elif part["dot_year"]:
        numbers = ("20" + year)[-4:], part["dot_month"], part["dot_day"]
    elif part["slash_year"]:
        low, high = sorted((int(part["one"]), int(part["two"])))
        if low != high and high <= 12:
            return None
        numbers = year, str(low), str(high)
    else:
        month = _MONTHS.get((part["month_first"] or part["month_after"]).casefold(), 0)
        numbers = year, str(month), part["day_after"] or part["day_first"]
    with suppress(ValueError):
        return date(*map(int, numbers))
    return None


def _clock_after(rest: str) -> time | None:
    return read_clock(_BEFORE_CLOCK.sub("", rest, count=1))


def _leads(text: str, match: re.Match[str]) -> bool:
    """Whether the match is at the beginning, but for an emoji, and has two digits everywhere."""
    padded = len(match["dot_day"]) == len(match["dot_month"]) == 2
    return padded and not any(character.isalnum() for character in text[: match.start()])


def _name_clock(match: re.Match[str]) -> time | None:
    hour = match["hour"] or (None if match["dash"] else match["end_hour"])
    if hour is None:
        return None
    with suppress(ValueError):
        return time(
            int(hour), int(match["minute"] or match["end_minute"]), int(match["second"] or 0)
        )
    return None


def _zone(text: str) -> timezone | None:
    """The zone of a name or an offset; None for one whose offset is not certain."""
    name = text.upper()
    offset = _OFFSET.fullmatch(name)
    if offset is None:
        return _ZONES.get(name)
    hours, minutes = int(offset["hours"]), int(offset["minutes"] or 0)
    if hours > 14 or minutes > 59:
        return None
    sign = -1 if offset["sign"] in "-−" else 1
    return timezone(sign * timedelta(hours=hours, minutes=minutes)) if hours or minutes else UTC


_ZONES = {
    "Z": UTC,
    "UTC": UTC,
    "GMT": UTC,
    "MSK": timezone(timedelta(hours=3)),
    "МСК": timezone(timedelta(hours=3)),
    "CET": timezone(timedelta(hours=1)),
    "CEST": timezone(timedelta(hours=2)),
    "EET": timezone(timedelta(hours=2)),
    "EEST": timezone(timedelta(hours=3)),
}

_MONTH_FORMS = (
    ("january", "январь", "января"),
    ("february", "февраль", "февраля"),
    ("march", "март", "марта"),
    ("april", "апрель", "апреля"),
    ("may", "май", "мая"),
    ("june", "июнь", "июня"),
    ("july", "июль", "июля"),
    ("august", "август", "августа"),
    ("september", "сентябрь", "сентября"),
    ("october", "октябрь", "октября"),
    ("november", "ноябрь", "ноября"),
    ("december", "декабрь", "декабря"),
)
# Every beginning of three letters or more, so that `Sept` and `нояб` are months too.
_MONTHS = {
    form[:length]: number
    for number, forms in enumerate(_MONTH_FORMS, start=1)
    for form in forms
    for length in range(3, len(form) + 1)
}

_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATE = re.compile(
    rf"""
    (?<![^\W_]|[./])
    (?:
      (?P<iso_year>\d{{4}})(?P<mark>[-/.])(?P<iso_month>\d{{1,2}})(?P=mark)(?P<iso_day>\d{{1,2}})
    | (?P<compact>(?:19|20)\d{{6}})
    | (?P<dot_day>\d{{1,2}})\.\ ?(?P<dot_month>\d{{1,2}})\.\ ?(?P<dot_year>\d{{4}}|\d{{2}})
    | (?P<one>\d{{1,2}})(?P<stroke>[-/])(?P<two>\d{{1,2}})(?P=stroke)(?P<slash_year>\d{{4}})
    | (?:
        (?P<month_first>{_MONTH})\.?\s(?P<day_after>\d{{1,2}})(?:st|nd|rd|th)?,?\s
      | (?P<day_first>\d{{1,2}})(?:st|nd|rd|th|-?го)?[\s-]
        (?:of\s)?(?P<month_after>{_MONTH})\.?,?[\s-]
      )
      (?P<year>\d{{4}})(?:\s?г(?:\.|ода?\b|\b))?
    )
    (?![-./]?\d)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d|\d{8}T\d{4}", re.ASCII)
_WEEKDAY = re.compile(
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]{0,6}|понедельник|вторник|среда|четверг|пятница"
    r"|суббота|воскресенье|пн|вт|ср|чт|пт|сб|вс)\.?,?\s+",
    re.IGNORECASE,
)
_RUSSIAN_HOURS = "утр[оа]м?|день|дня|днём|днем|вечер(?:а|ом)?|ноч[ьи]|ночью"
_CLOCK = re.compile(
    rf"""
    (?:(?:[~≈]|около|примерно|approx\.?|about|around)\s?)?
    (?P<hour>\d{{1,2}})
    (?: :(?P<minute>\d\d) (?: :(?P<second>\d\d) (?:[.,](?P<fraction>\d{{1,9}}))? )? )?
    (?:\s?(?P<half>[ap]\.?m\.?))?
    (?(second) | (?:\s?[-–—]\s?[~≈]?\d{{1,2}}:\d\d)? )   # the end of a range
    (?:\s?\(?(?P<zone>(?:UTC|GMT)?[-−+][\d:]{{1,5}}|{"|".join(_ZONES)})\)?)?
    (?:,?\s?\(?(?:late\ |early\ )?(?:morning|afternoon|evening|night|{_RUSSIAN_HOURS})\)?)?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_OFFSET = re.compile(r"(?:UTC|GMT)?(?P<sign>[-−+])(?P<hours>\d{1,2})(?::?(?P<minutes>\d\d))?")
_BEFORE_CLOCK = re.compile(r"\A\s?(?:[,;]|[-–—](?=\s)|T(?=\d))?\s?(?:(?:at|в)\s)?", re.IGNORECASE)
_TIME_OF_DAY = re.compile(r"T?\d{1,2}:\d\d(?::\d\d)?(?:\s?[-–—]\s?\d{1,2}:\d\d)?")
_RESIDUE = re.compile(r"(?:[^\w][^\d]*)?")  # what may follow a day: words, but no more numbers
_HEADING_PART = re.compile(r"\s[-–—|]|[(,;|]")
_NAME = re.compile(
    r"""
    (?<!\d) (?P<year>(?:19|20)\d\d) (?P<dash>[-_.]?) (?P<month>\d\d) (?P=dash) (?P<day>\d\d) (?!\d)
    (?:
      T(?P<hour>\d\d)[-:._]?(?P<minute>\d\d)(?:[-:._]?(?P<second>\d\d))?Z?(?!\d)
    | [-_](?P<end_hour>\d\d)(?P<end_minute>\d\d)\Z
    )?
    """,
    re.VERBOSE,
)
