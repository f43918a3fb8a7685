import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.documents import body_of, excerpt


@pytest.mark.parametrize(
    ("markdown", "plain"),
    [
        ("# Title\n\nFirst **bold** and `code`.\n\nSecond.", "First bold and code. Second."),
        ("---\na: 1\n---\n# T\r\n\r\nText\r\n", "Text"),
        ("# T\n## Part\n- [x] done\n1. one\n> said\n", "Part done one said"),
        ("# T\n\n---\n\n***\n```python\nrun()\n```\n", "run()"),
        (
            "T\n===\n[link](https://x.example) ![alt](a.png) <https://y.example>",
            "link alt https://y.example",
        ),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a b 1 2"),
        (
            "snake_case stays, _this_ and *that* and 2 * 3",
            "snake_case stays, this and that and 2 * 3",
        ),
        ("# T\n**Дата:** 2025-10-03  \n**Итог:** готово", "Итог: готово"),
        ("Before\n\n# T\nAfter", "Before After"),
        ("# T", ""),
    ],
)
def test_an_excerpt_is_plain_text_without_the_title(markdown: str, plain: str) -> None:
    assert excerpt(markdown, 280) == plain


def test_an_excerpt_is_cut_between_words() -> None:
    assert excerpt("one two three", 13) == "one two three"
    assert excerpt("one two three", 12) == "one two…"
    assert excerpt("one two three", 4) == "one…"
    assert excerpt("wonderful", 5) == "wond…"
    assert excerpt("wonderful", 0) == ""


@given(st.text(), st.integers(-1, 50))
def test_an_excerpt_is_never_longer_than_asked(text: str, length: int) -> None:
    assert len(excerpt(text, length)) <= max(0, length)


@given(st.text())
def test_a_body_is_the_end_of_the_text(text: str) -> None:
    assert text.endswith(body_of(text))
