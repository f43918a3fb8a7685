"""Changing one field changes its own lines, where they are, and nothing else."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from api.documents import (
    Collection,
    FieldValue,
    InvalidDocument,
    Session,
    create,
    edit,
    parse,
    rewrite,
)

NOON = datetime(2025, 12, 1, 12, 0, tzinfo=UTC)

FRONT = """\
---
# kept
title: "Old"   # why
date: 2025-10-20
tags: # mine
  - a
  -   b # x
# tail
status:  # none yet
note: |
  text
  # text too

agent: 'x'
---
# Heading

Body"""

HEADER = """\
# Title ✅
**Дата:** 4 ноября 2025  
**Время:** ~18:30-19:00  
**Статус:** ok  
**Other:** kept

## Next
"""  # noqa: W291


@pytest.mark.parametrize(
    ("changes", "old", "new"),
    [
        ({"title": "New: one"}, 'title: "Old"   # why', 'title: "New: one"   # why'),
        ({"title": None}, 'title: "Old"   # why\n', ""),
        ({"occurred_at": NOON}, "date: 2025-10-20", "date: 2025-12-01T12:00:00Z"),
        ({"occurred_at": None}, "date: 2025-10-20\n", ""),
        ({"tags": ["q", "r, s"]}, "  - a\n  -   b # x", '  - q\n  - "r, s"'),
        ({"tags": None}, "tags: # mine\n  - a\n  -   b # x\n", ""),
        ({"tags": []}, "tags: # mine\n  - a\n  -   b # x\n", ""),
        ({"status": "done"}, "status:  # none", "status: done  # none"),
        ({"agent": "it's"}, "agent: 'x'", "agent: 'it''s'"),
        ({"agent": None}, "agent: 'x'\n", ""),
        ({"project": "yes"}, "agent: 'x'\n", "agent: 'x'\nproject: \"yes\"\n"),
        ({"status": None}, "", ""),
    ],
)
def test_a_field_in_front_matter_changes_only_its_own_lines(
    changes: dict[str, FieldValue], old: str, new: str
) -> None:
    assert edit(Collection.SESSIONS, FRONT, changes) == FRONT.replace(old, new, 1)


@pytest.mark.parametrize(
    ("changes", "old", "new"),
    [
        ({"status": "готово"}, "**Статус:** ok  ", "**Статус:** готово  "),
        ({"status": None}, "**Статус:** ok  \n", ""),
        ({"title": "New"}, "# Title ✅", "# New"),
        (
            {"occurred_at": NOON},
            "**Дата:** 4 ноября 2025  \n**Время:** ~18:30-19:00  ",
            "**Дата:** 2025-12-01  \n**Время:** 12:00 UTC  ",
        ),
        ({"occurred_at": None}, "**Дата:** 4 ноября 2025  \n**Время:** ~18:30-19:00  \n", ""),
        ({"agent": "Claude"}, "# Title", "---\nagent: Claude\n---\n# Title"),
        # What a line or a heading cannot hold goes to front matter.
        ({"title": "Ends with #"}, "# Title", '---\ntitle: "Ends with #"\n---\n# Title'),
    ],
)
@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_field_in_the_text_changes_only_its_own_value(
    changes: dict[str, FieldValue], old: str, new: str, line_break: str, bom: str
) -> None:
    text = bom + HEADER.replace("\n", line_break)
    expected = bom + HEADER.replace(old, new, 1).replace("\n", line_break)
    assert edit(Collection.SESSIONS, text, changes) == expected


def test_a_value_of_several_lines_leaves_no_stale_header_line() -> None:
    changed = edit(Collection.SESSIONS, "# T\n**Status:** old\n", {"status": "two\nlines"})
    assert changed == '---\nstatus: "two\\nlines"\n---\n# T\n'


@pytest.mark.parametrize(
    ("text", "field", "value", "expected"),
    [
        ("---\nstatus: x\n---\n# H\n", "status", None, "# H\n"),
        # Bare delimiters would turn the comment into a heading between two rules.
        ("---\n# c\nstatus: x\n---\n# H\n", "status", None, "---\n# c\n{}\n---\n# H\n"),
        ("---\n# c\n{}\n---\n# H\n", "status", "done", "---\n# c\nstatus: done\n---\n# H\n"),
        # Without its front matter the body's first lines would become front matter.
        ("---\nstatus: x\n---\n---\na: 1\n---\n", "status", None, "---\n{}\n---\n---\na: 1\n---\n"),
        ("---\n{title: x, status: y}\n---\n", "status", "z", "---\n{title: x, status: z}\n---\n"),
        ("---\n  a: 1\n---\n", "status", "z", "---\n  a: 1\n  status: z\n---\n"),
        ("---\ntags:\n- a\n-\n\nb: 1\n---\n", "tags", ("c",), "---\ntags:\n- c\n\nb: 1\n---\n"),
        ("---\nstatus: [a]\n---\n", "status", "b", "---\nstatus: b\n---\n"),
        ("---\nstatus:\n- a\n---\n", "status", "b", "---\nstatus:\n  b\n---\n"),
        # A removed line must not let other lines become metadata.
        (
            "# T\n**Status:** A\n\n## Sub\n**Status:** B\n",
            "status",
            None,
            "# T\n**Status:** \n\n## Sub\n**Status:** B\n",
        ),
        # Both are removed: what is cleared must not show through.
        (
            "---\nstatus: a\nb: 1\n---\n# T\n**Status:** A\n",
            "status",
            None,
            "---\nb: 1\n---\n# T\n",
        ),
    ],
)
def test_awkward_places(text: str, field: str, value: FieldValue, expected: str) -> None:
    assert edit(Collection.SESSIONS, text, {field: value}) == expected


@pytest.mark.parametrize(
    ("text", "rank", "expected"),
    [
        ("# T\n**Priority:** #3 (ПАУЗА)\n", 1, "# T\n**Priority:** #1 (ПАУЗА)\n"),
        ("# T\n**Priority:** INFRA\n", 1, "---\nrank: 1\n---\n# T\n**Priority:** INFRA\n"),
        ("# T\n**Priority:** INFRA\n", None, "# T\n**Priority:** INFRA\n"),
        ("---\npriority: 'P2'\n---\n", 1, "---\npriority: 'P1'\n---\n"),
    ],
)
def test_a_rank_keeps_the_words_around_it(text: str, rank: int | None, expected: str) -> None:
    assert edit(Collection.PROJECTS, text, {"rank": rank}) == expected


def test_several_fields_change_together() -> None:
    changes: dict[str, FieldValue] = {
        "due_on": date(2025, 12, 31),
        "rank": 2,
        "title": "Ship",
        "status": None,
    }
    text = edit(Collection.PRIORITIES, "# Old\n**Status:** x\n**Срок:** 1.1.2025\n", changes)
    assert text == "---\nrank: 2\n---\n# Ship\n**Срок:** 2025-12-31\n"


def test_a_moment_is_written_in_utc() -> None:
    cyprus = datetime(2025, 10, 17, 22, 10, tzinfo=timezone(timedelta(hours=3)))
    text = edit(Collection.SESSIONS, "x", {"occurred_at": cyprus})
    assert text == "---\noccurred_at: 2025-10-17T19:10:00Z\n---\nx"
    naive = datetime(2025, 10, 17, 22, 10)  # noqa: DTZ001 - the rule is: without a zone it is UTC
    assert "22:10:00Z" in edit(Collection.SESSIONS, "x", {"occurred_at": naive})


@pytest.mark.parametrize(
    "text",
    [
        "---\na: [\n---\n",
        "---\na: 1\n",
        "---\na: 1\na: 2\n---\n",
        "---\n{a: 1}\n---\n",
        "---\n? a\n: 1\n---\n",
    ],
)
def test_front_matter_that_cannot_be_changed_safely_is_left_alone(text: str) -> None:
    with pytest.raises(InvalidDocument):
        edit(Collection.SESSIONS, text, {"status": "x"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 1}, "Sessions have no field `rank`"),
        ({"status": " "}, "blank"),
        ({"status": "x" * 501}, "limit is 500"),
        ({"title": "x" * 1_001}, "limit is 1,000"),
        ({"status": "a\0"}, "NUL"),
        ({"status": "\ud800"}, "surrogate"),
        ({"status": 3}, "takes a text"),
        ({"tags": "a"}, "takes a list"),
        ({"tags": ["a", " "]}, "blank"),
        ({"occurred_at": "soon"}, "ISO 8601"),
        ({"occurred_at": 5}, "ISO 8601"),
    ],
)
def test_values_that_no_document_can_have_are_refused(
    changes: dict[str, FieldValue], message: str
) -> None:
    with pytest.raises(InvalidDocument, match=message):
        edit(Collection.SESSIONS, "# T\n", changes)


def test_a_new_document_has_its_fields_before_the_text() -> None:
    markdown = "\n# Hello\r\n\n**Status:** theirs "
    fields: dict[str, FieldValue] = {
        "tags": ["a", "да"],
        "status": "ours",
        "title": "Заголовок: x",
        "occurred_at": NOON,
        "agent": None,
    }
    text = create(Collection.SESSIONS, markdown, fields)
    assert text == (
        '---\ntitle: "Заголовок: x"\noccurred_at: 2025-12-01T12:00:00Z\nstatus: ours\n'
        "tags: [a, да]\n---\n" + markdown
    )
    document = parse(Collection.SESSIONS, "a.md", text.encode())
    assert isinstance(document, Session)
    assert (document.title, document.status) == ("Заголовок: x", "ours")


def test_a_new_document_keeps_the_front_matter_that_it_brings() -> None:
    markdown = "---\nmood: good # really\nstatus: draft\n---\ntext"
    text = create(Collection.SESSIONS, markdown, {"title": "T", "status": "done", "agent": None})
    assert text == "---\nmood: good # really\nstatus: done\ntitle: T\n---\ntext"


def test_a_new_document_without_fields_is_the_text_itself() -> None:
    assert create(Collection.PROJECTS, "text", {}) == "text"


# Another text


@pytest.mark.parametrize(
    ("document", "text", "expected"),
    [
        ("---\na: 1\n---\nold\n", "new", "---\na: 1\n---\nnew"),
        ("---\r\na: 1\r\n---\r\nold", "new\n", "---\r\na: 1\r\n---\r\nnew\n"),
        ("---\na: 1\n---", "new\n", "---\na: 1\n---\nnew\n"),
        ("---\na: 1\n---\n", "", "---\na: 1\n---\n"),
        ("---\na: 1 # mine\nx:  [1,2]\n---\n\nold", "Ж\n", "---\na: 1 # mine\nx:  [1,2]\n---\nЖ\n"),
        ("old", "new", "new"),
        ("---\na: 1\n---\nold", "---\nb: 2\n---\nnew", "---\nb: 2\n---\nnew"),
        ("---\na: 1\n---\nold", "\ufeff---\nb: 2\n---\nnew", "\ufeff---\nb: 2\n---\nnew"),
        ("\ufeff---\na: 1\n---\nold", "new", "\ufeff---\na: 1\n---\nnew"),
        ("---\na: [\n---\nold", "---\na: []\n---\nnew", "---\na: []\n---\nnew"),
    ],
)
def test_a_new_text_goes_below_the_front_matter_unless_it_brings_its_own(
    document: str, text: str, expected: str
) -> None:
    assert rewrite(document, text) == expected
