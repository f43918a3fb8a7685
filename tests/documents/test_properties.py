"""What holds for every text, hostile ones included."""

import json
from datetime import UTC, date, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from api.documents import (
    Collection,
    FieldValue,
    InvalidDocument,
    Priority,
    Project,
    Session,
    Unreadable,
    body_of,
    check_markdown,
    create,
    edit,
    excerpt,
    parse,
)

# Lines that mean something, so that random texts are more than prose.
LINES = st.sampled_from(
    [
        "---",
        "...",
        "# Title",
        "## Date: 2025-10-30 14:05",
        "## Sub ##",
        "Words",
        "===",
        "```",
        "",
        "  ",
        "# Отчёт - 2025-08-12 14:20 🔥",
        "**Date:** October 20, 2025  ",
        "**Время:** 23:48 UTC",
        "**Timestamp:** 2025-10-20T08:00:00Z",
        "**Статус:** ✅ ok  ",
        "**Status**: other",
        "**Project:** Annoris",
        "**Priority:** #3 (ПАУЗА)",
        "**Tags:** a, b",
        "**Due:** 11.10.2025",
        "**Label:**",
        "**Other:** kept",
        "title: Front",
        'status: "quoted" # comment',
        "status: 'single'",
        "status:",
        "tags: [a, b]",
        "tags:",
        "- item",
        "  - item",
        "date: 2025-10-20",
        "time: '12:30'",
        "rank: 3",
        "priority: P2",
        "note: |",
        "  text",
        "# comment",
        "a: {b: [1, 2]}",
        "{}",
        "due_on: 2025-12-31",
        "name: Called",
        "x: &a [*a]",
    ]
)
BREAKS = st.sampled_from(["\n", "\r\n"])


@st.composite
def documents(draw: st.DrawFn) -> str:
    line_break = draw(BREAKS)
    lines = draw(st.lists(LINES, max_size=12))
    if draw(st.booleans()):
        front = draw(st.lists(LINES, max_size=5))
        lines = ["---", *front, "---", *lines]
    last = draw(st.sampled_from(["", line_break, "end"]))
    return draw(st.sampled_from(["", "\ufeff"])) + line_break.join(lines) + last


TEXTS = st.text(min_size=1, max_size=40).filter(lambda text: text.strip() and "\0" not in text)
MOMENTS = st.datetimes(timezones=st.just(UTC))
VALUES: dict[str, st.SearchStrategy[FieldValue]] = {
    "title": TEXTS,
    "name": TEXTS,
    "occurred_at": MOMENTS,
    "project": TEXTS,
    "status": TEXTS,
    "priority": TEXTS,
    "agent": TEXTS,
    "tags": st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
    "rank": st.integers(-(2**31) + 1, 2**31 - 1),
    "due_on": st.dates(min_value=date(1, 1, 1)),
}
FIELDS = {
    Collection.SESSIONS: (
        "title",
        "occurred_at",
        "project",
        "status",
        "priority",
        "agent",
        "tags",
    ),
    Collection.PROJECTS: ("title", "name", "status", "rank"),
    Collection.PRIORITIES: ("title", "rank", "status", "project", "due_on"),
}
# Keys that a field may be written under; lines with others must stay.
OWN = {
    "title": ("title", "# ", "## ", "words", "end", "==="),
    "name": ("name",),
    "occurred_at": ("date", "время", "time", "occurred_at", "## date"),
    "project": ("project",),
    "status": ("status", "статус"),
    "priority": ("priority",),
    "agent": ("agent",),
    "tags": ("tags", "- "),
    "rank": ("rank", "priority"),
    "due_on": ("due",),
}
CHANGES = st.sampled_from(list(Collection)).flatmap(
    lambda collection: st.sampled_from(FIELDS[collection]).flatmap(
        lambda field: st.tuples(st.just(collection), st.just(field), VALUES[field])
    )
)


def read(collection: Collection, text: str) -> Session | Project | Priority:
    document = parse(collection, "autosaves/some.md", text.encode())
    assert not isinstance(document, Unreadable)
    return document


@given(st.sampled_from(list(Collection)), st.text(), st.binary())
def test_parsing_never_raises(collection: Collection, path: str, content: bytes) -> None:
    parse(collection, path, content)


@given(st.sampled_from(list(Collection)), documents())
def test_what_is_parsed_can_be_stored(collection: Collection, text: str) -> None:
    document = read(collection, text)
    assert document.title
    stored = json.dumps(dict(document.metadata), allow_nan=False, ensure_ascii=False)
    assert b"\\u0000" not in stored.encode()
    if isinstance(document, Session) and document.occurred_at:
        assert document.occurred_at.tzinfo is UTC


@given(st.sampled_from(list(Collection)), documents())
def test_changing_nothing_changes_no_byte(collection: Collection, text: str) -> None:
    assert edit(collection, text, {}) == text
    document = read(collection, text)
    same = {
        field: value
        for field in FIELDS[collection]
        if (value := getattr(document, field)) and field not in {"title", "name", "occurred_at"}
    }
    try:
        assert edit(collection, text, same) == text
    except InvalidDocument:
        with pytest.raises(InvalidDocument):
            check_markdown(text, max_bytes=10_000)


@given(documents(), CHANGES)
def test_a_changed_field_reads_as_asked_and_other_lines_stay(
    text: str, change: tuple[Collection, str, FieldValue]
) -> None:
    collection, field, value = change
    try:
        changed = edit(collection, text, {field: value})
    except InvalidDocument:
        assume(False)
    assert getattr(read(collection, changed), field) == value
    assert_other_lines_stay(text, changed, field)


@given(documents(), CHANGES)
def test_a_cleared_field_is_written_nowhere(
    text: str, change: tuple[Collection, str, FieldValue]
) -> None:
    collection, field, _ = change
    assume(field not in {"title", "name"})
    try:
        cleared = edit(collection, text, {field: None})
    except InvalidDocument:
        assume(False)
    if field != "occurred_at":
        assert not getattr(read(collection, cleared), field)
    assert_other_lines_stay(text, cleared, field)
    assert edit(collection, cleared, {field: None}) == cleared


@given(documents(), CHANGES)
def test_a_created_document_reads_as_asked_and_ends_with_the_given_text(
    text: str, change: tuple[Collection, str, FieldValue]
) -> None:
    collection, field, value = change
    fields: dict[str, FieldValue] = {"title": "A title", field: value}
    try:
        created = create(collection, text, fields)
    except InvalidDocument:
        assume(False)
    document = read(collection, created)
    assert getattr(document, field) == value
    if body_of(text) == text:
        assert created.removeprefix("\ufeff").startswith("---")
        assert body_of(created) == text.removeprefix("\ufeff")


@given(documents(), CHANGES)
def test_setting_and_setting_again_is_setting_once(
    text: str, change: tuple[Collection, str, FieldValue]
) -> None:
    collection, field, value = change
    try:
        once = edit(collection, text, {field: value})
    except InvalidDocument:
        assume(False)
    assert edit(collection, once, {field: value}) == once


def assert_other_lines_stay(before: str, after: str, field: str) -> None:
    """Every line of another field is there, byte for byte, in its order."""
    remaining = iter(after.removeprefix("\ufeff").splitlines(keepends=True))
    for line in before.removeprefix("\ufeff").splitlines(keepends=True):
        lower = line.lower().strip(" *")
        delimiter = line.strip() in {"---", "...", "{}", ""}
        continued = line.startswith("  ")  # of any value
        if not delimiter and not continued and not lower.startswith(OWN[field]):
            assert line in remaining, line
    assert before.startswith("\ufeff") == after.startswith("\ufeff")


MEGABYTES = 2_000_000
BIG = {
    "one line": "x",
    "spaces after a marker": "# " + " " * 1_000_000 + "x",
    "blank lines": "# T\n" + "\n" * (MEGABYTES - 10),
    "rules": "---\n",
    "underlines": "x\n---\n\n",
    "one underline": "=",
    "hashes": "# " + "#" * 1_000_000 + " x",
    "fences": "```\n~~~\n",
    "backticks": "`",
    "stars": "*",
    "header lines": "# T\n" + "**Key:** value\n" * 100_000,
    "unclosed keys": "# T\n" + "**" * 500_000,
    "brackets": "[",
    "links": "[a](",
    "pipes": "|" * 1_500 + "x\n",
    "rule-like": "- " * 1_500 + "x\n",
    "quotes": ">" * 1_000_000 + "x",
    "underscores": "_" * 1_500 + " ",
    "digits": "# " + "1" * 500 + ".",
    "front matter without end": "---\na: b\n" + "k: v\n" * 300_000,
    "large front matter": "---\na: b\n" + "k: v\n" * 300_000 + "---\n",
    "deep front matter": "---\na: " + "[" * 65_000 + "\n---\n",
    "deep block": "---\n" + "".join(" " * depth + "a:\n" for depth in range(300)) + "---\n",
    "wide front matter": "---\na: [" + "{}," * 20_000 + "]\n---\n",
    "long keys": "---\n" + "? " * 30_000 + "\n---\n",
    "carriage returns": "\r",
    "comments": "---\n" + "#\n" * 900_000 + "a: 1\n---\n",
}


@pytest.mark.parametrize("seed", BIG.values(), ids=BIG.keys())
def test_two_megabytes_of_anything_are_read_in_linear_time(seed: str) -> None:
    """A backtracking expression would run into the suite's time limit here."""
    text = (seed * (MEGABYTES // len(seed) + 1))[:MEGABYTES]
    assert not isinstance(parse(Collection.SESSIONS, "a.md", text.encode()), Unreadable)
    assert len(excerpt(text, 280)) <= 280
    try:
        changed = edit(Collection.SESSIONS, text, {"title": "New"})
    except InvalidDocument:
        return
    document = parse(Collection.SESSIONS, "a.md", changed.encode(), max_bytes=2 * MEGABYTES)
    assert isinstance(document, Session)
    assert document.title == "New"


def test_a_moment_keeps_its_microseconds() -> None:
    moment = datetime(2025, 10, 20, 8, 0, 0, 123_456, tzinfo=UTC)
    text = edit(
        Collection.SESSIONS, "# T\n**Дата:** 1.10.2025\n**Время:** 7:30\n", {"occurred_at": moment}
    )
    assert text == "# T\n**Дата:** 2025-10-20\n**Время:** 08:00:00.123456 UTC\n"
