import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.documents import InvalidPath, check_path


@pytest.mark.parametrize(
    "path",
    [
        "a.md",
        "autosaves/2025/10/autosave_2025-10-20_x.md",
        "проекты/Аннорис 🔥.md",
        "a b/c-d_e.f.md",
        "x/⚠️ notes.md",
        "git/github/.gitx.md",
        "a/12:30.md",
        "a" * 252 + ".md",
    ],
)
def test_an_ordinary_path_is_safe(path: str) -> None:
    assert check_path(path) == path


def test_a_path_is_returned_in_one_normal_form() -> None:
    assert check_path("и\u0306.md") == "й.md"


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "no empty part"),
        ("/a.md", "relative"),
        ("a.md/", "relative"),
        ("a//b.md", "no empty part"),
        ("./a.md", "consists of dots"),
        ("a/../b.md", "consists of dots"),
        ("a/.../b.md", "consists of dots"),
        ("a\\b.md", "backslash"),
        ("a\0.md", "control"),
        ("a\n.md", "control"),
        ("a\u202e.md", "invisible"),
        (".g\u200cit/a.md", "invisible"),
        ("a\u3164.md", "invisible"),
        ("a\u2028.md", "separator"),
        ("a\ud800.md", "surrogate"),
        (".git/a.md", "belongs to Git"),
        ("a/.GIT/b.md", "belongs to Git"),
        (".git./a.md", "belongs to Git"),
        (".git::$INDEX_ALLOCATION/a.md", "belongs to Git"),
        ("GIT~1/a.md", "belongs to Git"),
        (".GitHub/workflows/a.md", "belongs to Git"),
        (".git /a.md", "space"),
        (" a.md", "space"),
        ("a/ b.md", "space"),
        ("C:/a.md", "drive"),
        ("C:a.md", "drive"),
        (":(top)a.md", "drive letter or a colon"),
        ("a.txt", r"ends in `\.md`"),
        ("a.MD", r"ends in `\.md`"),
        ("a/.md", "needs a name"),
        ("ы" * 127 + ".md", "255 bytes"),
        ("abcdefghi/" * 103 + "a.md", "1,024 bytes"),
    ],
)
def test_an_unsafe_path_is_refused_with_the_rule(path: str, rule: str) -> None:
    with pytest.raises(InvalidPath, match=rule):
        check_path(path)


@given(st.text(alphabet=st.characters() | st.sampled_from("./: \\~gitGIT"), max_size=30))
def test_any_text_is_a_safe_path_or_refused(text: str) -> None:
    try:
        path = check_path(text + ".md")
    except InvalidPath:
        return
    assert check_path(path) == path
    assert not path.startswith("/")
    assert not {"", ".", "..", ".git"} & set(path.split("/"))
