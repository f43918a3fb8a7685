"""Which texts have front matter, what it becomes as JSON, and what is refused as hostile."""

import json

import pytest

from api.documents import Collection, InvalidDocument, Session, body_of, check_markdown, parse
from api.documents.model import Json


def metadata(text: str) -> dict[str, Json]:
    document = parse(Collection.SESSIONS, "a.md", text.encode())
    assert isinstance(document, Session)
    return dict(document.metadata)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("2025-10-20", "2025-10-20"),
        ("2025-10-20T10:00:00Z", "2025-10-20T10:00:00Z"),
        ("12:30", "12:30"),
        ("1.5", 1.5),
        ("7", 7),
        ("007", "007"),
        ("9223372036854775807", 9223372036854775807),
        ("9223372036854775808", "9223372036854775808"),
        ("9" * 5_000, "9" * 5_000),
        ("1e999", "1e999"),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("yes", "yes"),
        ("true", True),
        ("~", None),
        ("", None),
        ("'null'", "null"),
        ("[a, {b: [1]}]", ["a", {"b": [1]}]),
    ],
)
def test_values_are_json_and_what_is_no_number_stays_text(written: str, value: Json) -> None:
    read = metadata(f"---\nk: {written}\n---\n")
    assert read == {"k": value}
    assert json.loads(json.dumps(read, allow_nan=False)) == read


@pytest.mark.parametrize(
    "text",
    ["---\na: 1\n---\nbody", "---  \r\na: 1\r\n...\r\nbody", "\ufeff---\na: 1\n---\nbody"],
)
def test_front_matter_is_a_mapping_between_delimiters_at_the_very_beginning(text: str) -> None:
    assert metadata(text) == {"a": 1}
    assert body_of(text) == "body"


@pytest.mark.parametrize(
    "text",
    [
        "\n---\na: 1\n---\n",
        "---\na: 1\n",
        "---\njust words\n---\n",
        "---\n- a\n- b\n---\n",
        "---\n---\n",
        "---\n# Heading\n\n*Words*: x\n---\n",
        "--- # x\na: 1\n---\n",
        "---\na: 1\n --- \n",
    ],
)
def test_anything_else_is_body(text: str) -> None:
    assert metadata(text) == {}
    assert body_of(text) == text


HOSTILE = {
    "anchor": "a: &x 1",
    "alias bomb": "a: &a [1]\nb: &b [*a,*a]\nc: [*b,*b]",
    "tag": "a: !!python/object:os.system x",
    "depth": "a: " + "[" * 100 + "]" * 100,
    "nodes": "a: [" + "1," * 5_000 + "]",
    "size": "a: " + "x" * 70_000,
    "duplicate key": "a: 1\na: 2",
    "nested duplicate key": "a: {b: 1, b: 2}",
    "key that is a mapping": "a: 1\n? {b: 1}\n: 2",
    "directive": "a: 1\n%YAML 1.1",
    "second document": "a: 1\n--- b",
    "broken": "a: [1",
    "tab": "a: 1\n\tb: 2",
    "NUL": 'a: "\\0"',
    "surrogate": 'a: "\\ud800"',
    "impossible character": 'a: "\\UFFFFFFFF"',
    "control character": "a: \x07",
}


@pytest.mark.parametrize("inner", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_front_matter_is_body_when_found_and_refused_when_sent(inner: str) -> None:
    text = f"---\n{inner}\n---\n# Title\n"
    assert metadata(text) == {}
    with pytest.raises(InvalidDocument, match="front matter"):
        check_markdown(text, max_bytes=1_000_000)


@pytest.mark.parametrize(
    ("markdown", "message"),
    [
        ("", "empty"),
        (" \r\n\t", "empty"),
        ("\ufeff\n", "empty"),
        ("a\0", "NUL"),
        ("a\ud800", "surrogate"),
        ("ы" * 60, "has 120 bytes; the limit is 100"),
        ("---\ntitle: x\n", "close it"),
    ],
)
def test_markdown_that_cannot_be_a_document_is_refused(markdown: str, message: str) -> None:
    with pytest.raises(InvalidDocument, match=message):
        check_markdown(markdown, max_bytes=100)


@pytest.mark.parametrize("markdown", ["x", "---\n\nRule above\n", "---\na: 1\n---\n", "***\n"])
def test_ordinary_markdown_is_accepted(markdown: str) -> None:
    check_markdown(markdown, max_bytes=100)
