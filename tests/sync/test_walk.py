"""The walk visits what changed, and nothing else."""

import pytest

from api.documents import Layout
from api.master.master import Head
from api.sync.walk import Walked, walk
from tests.sync.conftest import LAYOUT, Side
from tests.sync.oracle import commit, directories_at, documents_at, head_of

DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
NEW = b"# New\n"


async def walked(side: Side, known: dict[str, str], layout: Layout = LAYOUT) -> Walked:
    """A walk at the head by a process that remembers nothing."""
    head = await side.master.head()
    side.github.requests.clear()
    return await walk(side.master, head, layout, known)


def known_at(side: Side, layout: Layout = LAYOUT) -> dict[str, str]:
    return directories_at(side.repository, head_of(side.repository), layout)


async def test_from_nothing_it_finds_all_that_git_names(side: Side) -> None:
    commit(side.repository, {"tools/a.md": NEW, "projects/x/y.md": NEW})
    found = await walked(side, {})
    documents = documents_at(side.repository, "main", LAYOUT)
    assert {
        path: (path, item.document.revision, item.document.bytes)
        for path, item in documents.items()
    } == {path: (file.path, file.oid, file.size) for path, file in found.files.items()}
    assert found.directories == known_at(side)
    assert "tools" not in found.directories


async def test_where_nothing_changed_nothing_is_asked(side: Side) -> None:
    found = await walked(side, known_at(side))
    assert (found.directories, found.files) == ({}, {})
    assert side.asked == []


async def test_only_the_way_to_a_change_is_visited(side: Side) -> None:
    known = known_at(side)
    commit(side.repository, {DRILL: NEW})
    found = await walked(side, known)
    assert set(found.directories) == {"", "autosaves", "autosaves/2026", "autosaves/2026/11"}
    assert side.asked == ["Trees"] * 4
    assert {path.rpartition("/")[0] for path in found.files} == {"autosaves/2026/11"}


async def test_the_levels_of_many_changes_are_asked_for_together(side: Side) -> None:
    known = known_at(side)
    commit(side.repository, {f"autosaves/{i}/a.md": NEW for i in range(20)})
    found = await walked(side, known)
    assert len(found.directories) == 22
    assert side.asked == ["Trees"] * 3


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({"autosaves/2026": None}, ["autosaves/2026", "autosaves/2026/10", "autosaves/2026/11"]),
        ({"autosaves/2026/10": None}, ["autosaves/2026/10"]),
        (
            {"autosaves/2026/10": None, "autosaves/2026/10.md": NEW},
            ["autosaves/2026/10"],
        ),
        ({"autosaves/projects": None, "autosaves/projects2/a.md": NEW}, ["autosaves/projects"]),
    ],
)
async def test_directories_that_are_gone_are_named_with_all_below_them(
    side: Side, change: dict[str | bytes, bytes | None], gone: list[str]
) -> None:
    known = known_at(side)
    commit(side.repository, change)
    found = await walked(side, known)
    assert [path for path, tree in found.directories.items() if tree is None] == gone
    assert known_at(side) == {
        path: tree for path, tree in {**known, **found.directories}.items() if tree is not None
    }


async def test_a_sibling_with_a_longer_name_is_not_below(side: Side) -> None:
    commit(side.repository, {"autosaves-old/a.md": NEW, "autosaves/a-b/x.md": NEW})
    commit(side.repository, {"autosaves/a/x.md": NEW})
    known = known_at(side)
    assert "autosaves-old" not in known
    commit(side.repository, {"autosaves/a": None})
    found = await walked(side, known)
    assert [path for path, tree in found.directories.items() if tree is None] == ["autosaves/a"]


async def test_a_file_that_became_a_directory_and_back(side: Side) -> None:
    commit(side.repository, {"autosaves/a.md": NEW})
    known = known_at(side)
    commit(side.repository, {"autosaves/a.md": None, "autosaves/a.md/b.md": NEW})
    found = await walked(side, known)
    assert set(found.files) == {"autosaves/a.md/b.md"}

    known = known_at(side)
    commit(side.repository, {"autosaves/a.md/b.md": None, "autosaves/a.md": NEW})
    found = await walked(side, known)
    assert set(found.files) == {"autosaves/a.md"}
    assert found.directories["autosaves/a.md"] is None


async def test_only_roots_and_the_way_to_them_are_entered(side: Side) -> None:
    layout = Layout(sessions=("a/b/c",), projects=("a/b/c/d",), priorities=("p",))
    commit(
        side.repository,
        {"a/x.md": NEW, "a/b/x/y.md": NEW, "a/b/c/d/1.md": NEW, "ab/c.md": NEW, "a/b/cd/1.md": NEW},
    )
    found = await walked(side, {}, layout)
    assert set(found.directories) == {"", "a", "a/b", "a/b/c", "a/b/c/d"}
    assert set(found.files) == {"a/b/c/d/1.md"}


async def test_the_root_itself_may_hold_documents(side: Side) -> None:
    layout = Layout(sessions=("",), projects=("p",), priorities=("q",))
    found = await walked(side, {}, layout)
    assert set(found.files) == set(documents_at(side.repository, "main", layout))
    assert "README.md" in found.files


async def test_an_empty_tree_is_no_request(side: Side) -> None:
    commit(side.repository, {}, parent=None)
    known = {"": "0" * 40, "autosaves": "1" * 40}
    found = await walked(side, known)
    assert side.asked == []
    assert found.files == {}
    assert found.directories["autosaves"] is None


async def test_a_walk_of_the_past_is_of_the_past(side: Side) -> None:
    head: Head = await side.master.head()
    expected = documents_at(side.repository, head.commit, LAYOUT)
    commit(side.repository, {"autosaves": None})
    found = await walk(side.master, head, LAYOUT, {})
    assert set(found.files) == set(expected)
