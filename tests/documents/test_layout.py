from datetime import date

import pytest

from api.documents import Collection, Layout, Project, check_path, project_key, project_keys

DAY = date(2025, 10, 5)


@pytest.mark.parametrize(
    ("path", "collection"),
    [
        ("autosaves/a.md", Collection.SESSIONS),
        ("autosaves/2025/10/a.md", Collection.SESSIONS),
        ("autosaves/projects/a.md", Collection.PROJECTS),
        ("projects/x/a.md", Collection.PROJECTS),
        ("autosaves/priorities/a.md", Collection.PRIORITIES),
        ("autosaves/projects.md", Collection.SESSIONS),
        ("autosaves/projects-old/a.md", Collection.SESSIONS),
        ("autosaves/LATEST.json", None),
        ("autosaves/a.MD", None),
        ("README.md", None),
        ("autosavesx/a.md", None),
    ],
)
def test_the_longest_directory_in_whole_segments_decides(
    layout: Layout, path: str, collection: Collection | None
) -> None:
    assert layout.collection_of(path) is collection


def test_roots_are_the_topmost_directories(layout: Layout) -> None:
    assert layout.roots == ("autosaves", "projects")
    assert Layout((".",), ("p",), ("q",)).roots == ("",)


def test_the_root_of_the_repository_can_hold_a_collection() -> None:
    layout = Layout(("",), ("projects/",), ("q",))
    assert layout.collection_of("a.md") is Collection.SESSIONS
    assert layout.collection_of("projects/a.md") is Collection.PROJECTS
    assert layout.directories_of(Collection.PROJECTS) == ("projects",)
    assert layout.new_path(Collection.SESSIONS, "A", DAY) == "2025/10/autosave_2025-10-05_a.md"


@pytest.mark.parametrize(
    ("collection", "title", "path"),
    [
        (
            Collection.SESSIONS,
            "🔥 Ли Чан: первый КОНТАКТ!",
            "autosaves/2025/10/autosave_2025-10-05_li-chan-pervyi-kontakt.md",
        ),
        (Collection.SESSIONS, "🔥", "autosaves/2025/10/autosave_2025-10-05_untitled.md"),
        (Collection.PROJECTS, "../../etc", "autosaves/projects/etc.md"),
        (Collection.PRIORITIES, "a " * 99, f"autosaves/priorities/{'a-' * 29}a.md"),
        (Collection.PRIORITIES, "x" * 99, f"autosaves/priorities/{'x' * 60}.md"),
    ],
)
def test_a_new_document_goes_below_the_first_directory_of_its_collection(
    layout: Layout, collection: Collection, title: str, path: str
) -> None:
    assert layout.new_path(collection, title, DAY) == path
    assert check_path(path) == path
    assert layout.collection_of(path) is collection


@pytest.mark.parametrize(
    ("directories", "message"),
    [
        ((("a",), ("a",), ("b",)), "cannot hold both sessions and projects"),
        ((("a",), ("b",), ("b/",)), "cannot hold both projects and priorities"),
        (((".",), ("",), ("b",)), "cannot hold both"),
        ((("../a",), ("b",), ("c",)), "consists of dots"),
        ((("a",), (".git",), ("c",)), "belongs to Git"),
        ((("a",), ("b",), ()), "priorities needs at least one directory"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(
    directories: tuple[tuple[str, ...], ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Layout(*directories)


def test_the_fingerprint_changes_with_what_belongs_where_alone() -> None:
    one = Layout(("a", "b"), ("c",), ("d",)).fingerprint
    assert one == Layout(("b", "a/"), ("c",), ("d",)).fingerprint
    assert one != Layout(("a",), ("b", "c"), ("d",)).fingerprint


@pytest.mark.parametrize(
    "written",
    ["Annoris", " ANNORIS ", "projects/annoris-status.md", "annoris-status", "annoris-status.md"],
)
def test_a_project_answers_to_every_usual_spelling(written: str) -> None:
    project = Project(
        path="projects/annoris-status.md", revision="", bytes=0, title="", name="ANNORIS"
    )
    assert project_key(written) in project_keys(project)


def test_keys_are_transliterated_without_case_except_paths() -> None:
    assert project_key("Проект Ёж") == project_key("проект-ёж") == "proekt-ezh"
    assert project_key("./Projects/Ёж.md") == "projects/ёж.md"
    assert project_key("🔥") == "🔥"
    assert project_key(" ") == ""
    project = Project(path="p/a-status.md", revision="", bytes=0, title="", name="🔥 A")
    assert project_keys(project) == ("p/a-status.md", "a-status", "a")
