"""A listing is complete if, and only if, it hashes to the oid of its tree."""

from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.documents import Json
from api.master.trees import EMPTY_TREE, TreeEntry, read_entries, tree_oid
from tests.clone import git

OID = "ce013625030ba8dba906f756967f9e9ca394464a"
MODES = (0o100644, 0o100755, 0o120000, 0o160000, 0o40000)


def entry(name: bytes, mode: int = 0o100644, oid: str = OID) -> TreeEntry:
    return TreeEntry(name, name.decode(errors="replace"), mode, oid, 0)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty repository, to let git hash in."""
    path = tmp_path_factory.mktemp("objects")
    git(path, "init", "--quiet", "--bare")
    return path


def git_tree(objects: Path, entries: list[TreeEntry]) -> str:
    """What git calls a tree of these entries. It need not have what they name."""
    kinds = {0o40000: b"tree", 0o160000: b"commit"}
    lines = b"".join(
        b"%06o %s %s\t%s\0" % (e.mode, kinds.get(e.mode, b"blob"), e.oid.encode(), e.raw_name)
        for e in entries
    )
    return git(objects, "mktree", "--missing", "-z", stdin=lines).decode().strip()


def test_the_empty_tree_is_the_one_that_git_knows() -> None:
    assert tree_oid([]) == EMPTY_TREE


@pytest.mark.parametrize(
    "names",
    [
        ["a.md"],
        ["заметка.md", "ё.md", "日記.md", "🌱.md"],
        [
            " leading",
            "trailing ",
            "in the middle",
            "new\nline",
            "tab\there",
            'quo"te',
            "back\\slash",
        ],
        ["é.md", "e\u0301.md"],  # the same to the eye, two names to git
        ["A.md", "a.md"],
        ["-", "-n", "*", "#x", "~", ".hidden", "a" * 255],
    ],
)
def test_odd_names_hash_as_git_hashes_them(objects: Path, names: list[str]) -> None:
    entries = [entry(name.encode()) for name in names]
    assert tree_oid(entries) == git_tree(objects, entries)


def test_names_that_are_not_utf8_hash_as_bytes(objects: Path) -> None:
    entries = [entry(b"caf\xe9.md"), entry(b"\xff\xfe"), entry(b"plain.md")]
    assert tree_oid(entries) == git_tree(objects, entries)


def test_executables_links_submodules_and_directories_hash_with_their_modes(objects: Path) -> None:
    entries = [entry(b"%o" % mode, mode) for mode in MODES]
    assert tree_oid(entries) == git_tree(objects, entries)


def test_a_directory_is_sorted_as_if_its_name_ended_in_a_slash(objects: Path) -> None:
    """`a.md` (0x2E) comes before the directory `a/` (0x2F), and that before `a0` (0x30)."""
    entries = [entry(b"a", 0o40000), entry(b"a.md"), entry(b"a0"), entry(b"a-b", 0o40000)]
    assert tree_oid(entries) == git_tree(objects, entries)


NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & {0, ord("/")} and name not in {b".", b".."}
)
OIDS = st.binary(min_size=20, max_size=20).filter(any).map(bytes.hex)
ENTRIES = st.lists(
    st.builds(entry, NAMES, st.sampled_from(MODES), OIDS),
    unique_by=lambda e: e.raw_name,
    max_size=12,
)


@given(entries=ENTRIES)
def test_any_listing_hashes_as_git_hashes_it(objects: Path, entries: list[TreeEntry]) -> None:
    assert tree_oid(entries) == git_tree(objects, entries)


@given(entries=ENTRIES, data=st.data())
def test_the_order_of_a_listing_does_not_matter_and_its_completeness_does(
    entries: list[TreeEntry], data: st.DataObject
) -> None:
    assert tree_oid(data.draw(st.permutations(entries))) == tree_oid(entries)
    if entries:
        missing = data.draw(st.sampled_from(entries))
        assert tree_oid([e for e in entries if e is not missing]) != tree_oid(entries)


@given(entries=ENTRIES)
def test_a_listing_survives_the_way_over_the_wire(entries: list[TreeEntry]) -> None:
    """GitHub sends names as base64 of their bytes, and modes as decimal numbers."""
    sent: list[Json] = [
        {"nameRaw": b64encode(e.raw_name).decode(), "mode": e.mode, "oid": e.oid, "size": e.size}
        for e in entries
    ]
    assert tree_oid(read_entries(sent)) == tree_oid(entries)


def test_githubs_decimal_modes_tell_files_directories_links_and_submodules_apart() -> None:
    def kind(mode: int) -> tuple[bool, bool]:
        [read] = read_entries(
            [{"nameRaw": b64encode(b"x").decode(), "mode": mode, "oid": OID, "size": 1}]
        )
        return read.is_file, read.is_directory

    assert kind(33188) == (True, False)  # 100644
    assert kind(33261) == (True, False)  # 100755
    assert kind(16384) == (False, True)  # 40000
    assert kind(40960) == (False, False)  # 120000, a symbolic link
    assert kind(57344) == (False, False)  # 160000, a submodule


def test_a_name_that_is_not_utf8_has_no_text() -> None:
    [read] = read_entries(
        [{"nameRaw": b64encode(b"caf\xe9").decode(), "mode": 33188, "oid": OID, "size": 1}]
    )
    assert (read.raw_name, read.name) == (b"caf\xe9", None)
