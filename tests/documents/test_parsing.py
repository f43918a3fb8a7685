from datetime import UTC, date, datetime

import pytest

from api.documents import Collection, Priority, Project, Session, Unreadable, blob_oid, parse


def session(text: str, path: str = "autosaves/note.md") -> Session:
    document = parse(Collection.SESSIONS, path, text.encode())
    assert isinstance(document, Session)
    return document


def project(text: str) -> Project:
    document = parse(Collection.PROJECTS, "projects/some-status.md", text.encode())
    assert isinstance(document, Project)
    return document


def priority(text: str) -> Priority:
    document = parse(Collection.PRIORITIES, "autosaves/priorities/p.md", text.encode())
    assert isinstance(document, Priority)
    return document


def test_the_revision_is_gits_blob_oid() -> None:
    assert blob_oid(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert blob_oid(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert session("x").revision == blob_oid(b"x")
    known = parse(Collection.SESSIONS, "a.md", b"x", revision="0" * 40)
    assert known.revision == "0" * 40


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe", "The file is not UTF-8: byte 0 cannot be decoded."),
        (b"a\0b", "The file contains NUL bytes, so it is not text."),
        (b"x" * 101, "The file has 101 bytes; at most 100 are read."),
    ],
)
def test_content_that_is_no_text_is_unreadable_with_a_reason(content: bytes, reason: str) -> None:
    document = parse(Collection.SESSIONS, "a.md", content, max_bytes=100)
    assert document == Unreadable(
        path="a.md", revision=blob_oid(content), bytes=len(content), reason=reason
    )


def test_front_matter_comes_before_header_lines_heading_and_file_name() -> None:
    text = "# Heading - 2025-03-03\n**Date:** 2025-02-02\n**Status:** from header\n"
    path = "autosaves/autosave_2025-04-04_x.md"
    whole = "---\ntitle: Front\ndate: 2025-01-01\nstatus: from front\n---\n" + text
    assert session(whole, path).title == "Front"
    assert session(whole, path).status == "from front"
    days = [
        session(each, path).occurred_at
        for each in (whole, text, "# Heading - 2025-03-03\n", "# Heading\n")
    ]
    assert days == [datetime(2025, month, month, tzinfo=UTC) for month in (1, 2, 3, 4)]


def test_all_fields_are_read_from_front_matter_in_both_languages() -> None:
    read = session(
        "---\nДата: 4 ноября 2025\nВремя: '14:30 МСК'\nСтатус: готово\nПроект: Аннорис\n"
        "Приоритет: 1\nАгент: Claude\nТеги: [api, кэш, 7]\n---\n# T\n"
    )
    assert read.occurred_at == datetime(2025, 11, 4, 11, 30, tzinfo=UTC)
    assert (read.status, read.project, read.priority) == ("готово", "Аннорис", "1")
    assert (read.agent, read.tags) == ("Claude", ("api", "кэш", "7"))
    assert read.metadata["Дата"] == "4 ноября 2025"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**Date:** 2025-10-20\n**Time:** 23:48 UTC\n", "2025-10-20T23:48Z"),
        ("**Date:** 2025-10-20\n**Time:** Late evening\n", "2025-10-20T00:00Z"),
        ("**Date:** 2025-10-20\n**Time:** 22:10 Cyprus\n", "2025-10-20T00:00Z"),
        ("**Date:** 2025-10-20\n**Timestamp:** 2025-10-20T08:00:01Z\n", "2025-10-20T08:00:01Z"),
        ("**Time:** 9:05\n", None),
        ("**Date:** soon\n", None),
    ],
)
def test_day_and_time_of_day_combine(text: str, expected: str | None) -> None:
    moment = datetime.fromisoformat(expected) if expected else None
    assert session("# T\n" + text).occurred_at == moment


def test_a_day_without_time_takes_the_time_of_the_same_day_in_the_file_name() -> None:
    path = "autosaves/jean-claude-autosave-20250812-1420.md"
    same = session("# T\n**Date:** August 12, 2025\n", path)
    other = session("# T\n**Date:** August 13, 2025\n", path)
    assert same.occurred_at == datetime(2025, 8, 12, 14, 20, tzinfo=UTC)
    assert other.occurred_at == datetime(2025, 8, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# 🔥 **Bold** title ✅\n", "🔥 **Bold** title ✅"),
        ("   ## Second level ##\n# First\n", "Second level"),
        ("Intro\n\n# Later\n", "Later"),
        ("# \n# Words\n", "Words"),
        ("Setext\n======\n", "Setext"),
        ("Setext\n---\n", "Setext"),
        ("```\n# code\n```\n# Real\n", "Real"),
        ("~~~~\n# code\n~~~\n# code\n~~~~\n# Real\n", "Real"),
        ("```\n# never closed\n", "note"),
        ("    # indented code\n", "note"),
        ("#hashtag\n", "note"),
        ("- item\n---\n", "note"),
        ("a\nb\n---\n", "note"),
        ("", "note"),
        ("# C#\n", "C#"),
        ("\ufeff# With BOM\r\n", "With BOM"),
        ("---\ntitle: 42\n---\n", "42"),
        ("---\ntitle: ''\n---\n# Heading\n", "Heading"),
        ("# " + "x" * 2_000, "x" * 999 + "…"),
    ],
)
def test_the_title_is_the_first_heading_without_its_marker(text: str, title: str) -> None:
    assert session(text).title == title


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        (
            "# T\n**A:** 1  \n\n**B**: 2\n- **C:** 3\n\nText\n**D:** 4\n",
            {"A": "1", "B": "2", "C": "3"},
        ),
        ("# T\n**A:** 1\n---\n**B:** 2\n", {"A": "1"}),
        ("# T\n**A:** 1\n## Next\n**B:** 2\n", {"A": "1"}),
        ("# T\nText\n**A:** 1\n", {}),
        ("# T\n**A label**\n**A:** 1\n", {}),
        ("# T\n**What was done:**\n1. all\n", {}),
        ("**A:** 1\n\nNo heading\n", {}),
        ("# T\n```\n**A:** 1\n```\n", {}),
        # Below a second heading only known keys count.
        ("# T\n\n## Sub\n\n**Status:** ok\n**A:** 1\n", {"Status": "ok"}),
        ("# T\n## Date: 2025-10-30\n### Problem\n", {"Date": "2025-10-30"}),
        ("# T\n## Problem: none\n", {}),
        ("---\nA: front\n---\n# T\n**A:** 1\n**B:** 2\n**B:** 3\n", {"A": "front", "B": "2"}),
    ],
)
def test_header_lines_are_the_block_under_the_first_heading(
    text: str, metadata: dict[str, str]
) -> None:
    assert session(text).metadata == metadata


@pytest.mark.parametrize(
    ("written", "tags"),
    [
        ("api, кэш; db", ("api", "кэш", "db")),
        ("#api #кэш", ("api", "кэш")),
        ("two words", ("two words",)),
        (" , ", ()),
    ],
)
def test_tags_in_a_header_line_are_split(written: str, tags: tuple[str, ...]) -> None:
    assert session(f"# T\n**Tags:** {written}\n").tags == tags


@pytest.mark.parametrize(
    ("written", "rank"),
    [
        ("3", 3),
        ('"#3 (ПАУЗИРОВАН)"', 3),
        ('"№ 2"', 2),
        ("P1", 1),
        ("1 (top)", 1),
        ("-5", -5),
        ("INFRASTRUCTURE (OPERATIONAL)", None),
        ("2025-10-20", None),
        ("3 days", None),
        ("true", None),
        ("9999999999", None),
        ("2.5", None),
    ],
)
def test_a_rank_is_a_number_or_begins_with_one(written: str, rank: int | None) -> None:
    assert project(f"---\npriority: {written}\n---\n").rank == rank


@pytest.mark.parametrize(
    ("text", "name", "title"),
    [
        ("# 🤖 AIEX PROJECT STATUS\n", "AIEX", "🤖 AIEX PROJECT STATUS"),
        ("# Annoris — статус проекта 🔥\n", "Annoris", "Annoris — статус проекта 🔥"),
        ("# Status\n", "Status", "Status"),
        ("# C++\n", "C++", "C++"),
        ("---\nname: Front\n---\n# Heading\n", "Front", "Heading"),
        ("---\ntitle: Front STATUS\n---\n# Heading\n", "Front STATUS", "Front STATUS"),
        ("---\nname: Only\n---\nText\n", "Only", "Only"),
        ("Text\n", "some", "some-status"),
    ],
)
def test_a_project_is_called_as_people_call_it(text: str, name: str, title: str) -> None:
    assert (project(text).name, project(text).title) == (name, title)


def test_a_priority_has_rank_status_project_and_due_date() -> None:
    read = priority(
        "# Ship\n**Rank:** #2\n**Статус:** идёт\n**Project:** Annoris\n**Срок:** 11.10.2025\n"
    )
    assert (read.rank, read.status, read.project) == (2, "идёт", "Annoris")
    assert read.due_on == date(2025, 10, 11)


def test_prose_is_no_value() -> None:
    read = session(f"---\nstatus: {'x' * 600}\nproject: [a, b]\n---\n")
    assert (read.status, read.project) == (None, None)
    assert read.metadata["status"] == "x" * 600


@pytest.mark.parametrize("path", ["", "\udcff.md", "a/\0.md", ".md", "no-extension"])
def test_any_path_gives_a_title_that_can_be_stored(path: str) -> None:
    document = parse(Collection.PROJECTS, path, b"")
    assert isinstance(document, Project)
    assert document.title
    assert "\0" not in document.title.encode().decode()
