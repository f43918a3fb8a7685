import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.documents import InvalidPath, check_path, folded, is_in_the_way


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


NAMES = st.text("aAbßй", min_size=1, max_size=3)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@given(st.text())
def test_a_folded_name_is_folded_once_and_for_all(name: str) -> None:
    assert folded(folded(name)) == folded(name) == folded(name + ". ")


@given(PATHS, PATHS)
def test_being_in_the_way_is_mutual(path: str, other: str) -> None:
    assert is_in_the_way(path, other) == is_in_the_way(other, path)


@given(PATHS, PATHS)
def test_two_that_a_blind_file_system_can_hold_are_not_in_each_others_way(
    path: str, other: str
) -> None:
    """Told by a model of such a file system: each folded name has one spelling, and one kind."""
    spelt: dict[tuple[str, ...], tuple[str, bool]] = {}
    clash = path == other
    for each in {path, other}:
        names = each.split("/")
        for depth, name in enumerate(names):
            place = tuple(folded(n) for n in names[: depth + 1])
            kind = (name, depth == len(names) - 1)
            clash = clash or spelt.setdefault(place, kind) != kind
    assert is_in_the_way(path, other) == clash
