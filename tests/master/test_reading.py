"""Reading the master over real HTTP: what is asked, what it costs, and that all of it is proven."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from api.documents import Json, blob_oid
from api.master.errors import (
    AccessRefused,
    Corrupt,
    MasterError,
    Missing,
    RateLimited,
    TooMuchAsked,
    Unreachable,
)
from api.master.master import BYTES_A_REQUEST, Head, Master, Wanted, batches
from api.master.transport import GitHub as Client
from api.master.trees import EMPTY_TREE, read_entries, tree_oid
from sandbox.github import Fault, GitHub, Limits
from tests.clone import Clone, git
from tests.master.planting import EXECUTABLE, LINK, SUBMODULE, plant, rev
from tests.master.scripted import Said, Scripted

NOWHERE = "0123456789" * 4
NOTE = "autosaves/projects/reading-room.md"


def content(number: int) -> bytes:
    return b"# Note %d\n" % number


def wanted(*contents: bytes) -> list[Wanted]:
    return [Wanted(blob_oid(each), len(each)) for each in contents]


def by_oid(*contents: bytes) -> dict[str, bytes]:
    return {blob_oid(each): each for each in contents}


@pytest.fixture
async def impatient(github: GitHub) -> AsyncIterator[Master]:
    """A master whose requests time out soon."""
    async with Client(github.url, github.token, timeout=0.3) as client:
        yield Master(client, github.hosting.name, github.hosting.branch)


# --- heads ----------------------------------------------------------------------------------


async def test_the_head_is_the_commit_that_the_branch_points_at(
    master: Master, repository: Path, github: GitHub
) -> None:
    before = datetime.now(UTC)
    head = await master.head()
    assert head.commit == rev(repository, "main")
    assert head.tree == rev(repository, "main^{tree}")
    assert head.committed_at == datetime.fromisoformat(
        git(repository, "log", "-1", "--format=%cI", "main").decode().strip()
    )
    assert before <= head.seen_at <= datetime.now(UTC)
    assert github.requests.count() == master.github.requests == 1


async def test_a_push_by_anybody_moves_the_head(master: Master, clone: Clone) -> None:
    assert (await master.head()).commit != (pushed := clone.push({"new.md": "x"}))
    assert (await master.head()).commit == pushed


@pytest.mark.parametrize("name", ["annoris/absent", "stranger/documents"])
async def test_a_repository_that_is_not_there_is_missing(client: Client, name: str) -> None:
    with pytest.raises(Missing, match="Could not resolve to a Repository"):
        await Master(client, name, "main").head()


async def test_a_branch_that_is_not_there_is_missing(client: Client, github: GitHub) -> None:
    with pytest.raises(Missing, match="The branch absent does not exist"):
        await Master(client, github.hosting.name, "absent").head()


async def test_an_empty_repository_has_no_branch_yet(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "empty.git")
    async with (
        GitHub(tmp_path / "empty.git", limits=Limits.off()) as empty,
        Client(empty.url, empty.token, timeout=10) as client,
    ):
        master = Master(client, empty.hosting.name, "main")
        with pytest.raises(Missing, match="Create it with a first commit"):
            await master.head()
        with pytest.raises(Missing):
            await master.head_with_file("any.md")


async def test_a_renamed_repository_is_still_found(master: Master, github: GitHub) -> None:
    github.faults.add(Fault(kind="repository_renamed", name="annoris/new", count=None))
    assert (await master.head()).commit == github.head


async def test_a_replica_that_lags_behind_our_own_commits_is_passed_by(
    master: Master, github: GitHub, repository: Path
) -> None:
    lagging = await master.head()
    github.faults.add(Fault(kind="lagging_head", count=None))
    ours = lagging
    for number in range(3):
        commit = plant(repository, {"ours.md": f"{number}"})
        head = Head(commit, rev(repository, "main^{tree}"), lagging.committed_at, ours.seen_at)
        master.remember(ours.commit, head)
        ours = head
    head, entry = await master.head_with_file("ours.md")
    assert (await master.head()).commit == head.commit == ours.commit
    assert entry is not None
    assert entry.oid == blob_oid(b"2")
    assert head.seen_at > ours.seen_at, "it is as fresh as the question, not as the memory"


async def test_a_commit_is_found_by_its_oid_after_the_branch_left_it(
    master: Master, clone: Clone
) -> None:
    first = await master.head()
    left = clone.push({"left.md": "x"})
    clone.reset(first.commit)
    assert (await master.head()).commit == first.commit
    assert (await master.head_at(left)).commit == left


@pytest.mark.parametrize("what", ["nothing", "a tree"])
async def test_what_is_no_commit_is_missing_as_a_commit(master: Master, what: str) -> None:
    oid = NOWHERE if what == "nothing" else (await master.head()).tree
    with pytest.raises(Missing, match=f"does not have the commit {oid}"):
        await master.head_at(oid)


async def test_the_newest_commit_before_a_time(master: Master, repository: Path) -> None:
    base = 1_790_000_000
    commits = [plant(repository, {"a.md": f"{n}"}, at=base + n * 1_000) for n in range(3)]
    head = await master.head()
    between = datetime.fromtimestamp(base + 1_500, UTC)
    before = await master.commit_before(head, between)
    assert before is not None
    assert before.commit == commits[1]
    assert await master.commit_before(head, datetime(1999, 1, 1, tzinfo=UTC)) is None
    unknown = Head(NOWHERE, NOWHERE, between, between)
    with pytest.raises(Missing):
        await master.commit_before(unknown, between)


# --- what the branch contains ----------------------------------------------------------------


async def test_the_branch_contains_its_head_and_its_past(master: Master, clone: Clone) -> None:
    old = await master.head()
    new = clone.push({"new.md": "x"})
    for commit in (new, old.commit):
        found = await master.contains(commit)
        assert found is not None
        assert found.commit == new
    assert master.github.requests == 3


async def test_a_rewritten_commit_is_not_contained(master: Master, clone: Clone) -> None:
    first = await master.head()
    left = clone.push({"left.md": "x"})
    clone.reset(first.commit)
    clone.push({"right.md": "x"})
    assert await master.contains(left) is None


@pytest.mark.usefixtures("no_pauses")
async def test_a_commit_that_nobody_knows_is_not_contained(master: Master) -> None:
    assert await master.contains(NOWHERE) is None
    assert master.github.requests == 3, "it was looked for as long as a replica may lag"


@pytest.mark.usefixtures("no_pauses")
async def test_a_commit_of_a_branch_that_was_not_merged_is_not_served(
    master: Master, repository: Path
) -> None:
    """From here it looks like a fresh commit that a replica does not show yet."""
    ahead = plant(repository, {"draft.md": "x"}, branch="draft", onto="refs/heads/main^0")
    with pytest.raises(Unreachable, match=f"{ahead} is ahead of the branch"):
        await master.contains(ahead)


@pytest.mark.usefixtures("no_pauses")
async def test_a_fresh_commit_is_contained_once_the_replica_catches_up(
    master: Master, github: GitHub, clone: Clone
) -> None:
    github.faults.add(Fault(kind="lagging_head", count=2))
    fresh = clone.push({"fresh.md": "x"})
    found = await master.contains(fresh)
    assert found is not None
    assert found.commit == fresh


async def test_our_own_fresh_commit_is_contained_at_once(
    master: Master, github: GitHub, repository: Path
) -> None:
    before = await master.head()
    github.faults.add(Fault(kind="lagging_head", count=None))
    ours = [plant(repository, {"ours.md": f"{n}"}) for n in range(2)]
    for parent, commit in zip((before.commit, *ours), ours, strict=False):
        master.remember(parent, Head(commit, before.tree, before.committed_at, before.seen_at))
    for commit in ours:
        found = await master.contains(commit)
        assert found is not None
        assert found.commit == ours[-1]
    assert master.github.requests == 3


async def test_a_comparison_that_failed_is_not_a_no(
    scripted: Scripted, scripted_client: Client
) -> None:
    said: dict[str, Json] = {
        "data": {"repository": {"ref": {"target": {"oid": NOWHERE}, "compare": None}}},
        "errors": [
            {
                "path": ["repository", "ref", "compare"],
                "message": "Something went wrong while executing your query.",
            }
        ],
    }
    scripted.say(Said.json(said))
    with pytest.raises(TooMuchAsked):
        await Master(scripted_client, "annoris/documents", "main").contains(NOWHERE)


# --- the head and one path, in one request ---------------------------------------------------


async def test_a_file_comes_with_the_head_and_its_content_with_the_file(
    master: Master, repository: Path
) -> None:
    head, entry = await master.head_with_file(NOTE)
    assert head.commit == rev(repository, "main")
    assert entry is not None
    assert entry.is_file
    assert entry.oid == rev(repository, f"main:{NOTE}")
    text = git(repository, "cat-file", "blob", entry.oid)
    assert entry.size == len(text)
    assert await master.blobs([Wanted(entry.oid, entry.size)]) == {entry.oid: text}
    assert master.github.requests == 1


@pytest.mark.parametrize(
    "path",
    ["absent.md", "autosaves/absent/a.md", f"{NOTE}/below.md", "Rate Limits.md", "ё/日記.md"],
)
async def test_what_is_not_there_is_none_in_one_request(master: Master, path: str) -> None:
    assert (await master.head_with_file(path))[1] is None
    assert (await master.head_with_entry(path))[1] is None
    assert master.github.requests == 2


async def test_a_directory_is_told_from_a_file(master: Master, repository: Path) -> None:
    for read in (master.head_with_file, master.head_with_entry):
        _, entry = await read("autosaves")
        assert entry is not None
        assert entry.is_directory
        assert entry.oid == rev(repository, "main:autosaves")


async def test_links_and_submodules_are_no_files(master: Master, repository: Path) -> None:
    plant(repository, {"link.md": "README.md"}, mode=LINK)
    plant(repository, {"module": NOWHERE}, mode=SUBMODULE)
    plant(repository, {"run.sh": "#!/bin/sh\n"}, mode=EXECUTABLE)
    kinds = {}
    for path in ("link.md", "module", "run.sh"):
        _, entry = await master.head_with_file(path)
        assert entry is not None
        kinds[path] = (entry.is_file, entry.is_directory)
    assert kinds == {"link.md": (False, False), "module": (False, False), "run.sh": (True, False)}


@pytest.mark.parametrize("read", ["file", "entry"])
async def test_a_file_over_10_mb_is_there_although_github_will_not_say_so(
    master: Master, repository: Path, read: Literal["file", "entry"]
) -> None:
    """Taken for absent, it would be overwritten."""
    huge = b"x" * (10 * 1024 * 1024 + 1)
    plant(repository, {"autosaves/huge.md": huge})
    method = master.head_with_file if read == "file" else master.head_with_entry
    head, entry = await method("autosaves/huge.md")
    assert head.commit == rev(repository, "main")
    assert entry is not None
    assert (entry.oid, entry.size) == (blob_oid(huge), len(huge))


async def test_a_head_with_too_much_beside_it_is_read_in_smaller_steps(
    master: Master, github: GitHub, repository: Path
) -> None:
    github.faults.add(Fault(kind="resource_limits"))
    head, entry = await master.head_with_file(NOTE)
    assert entry is not None
    assert (head.commit, entry.oid) == (rev(repository, "main"), rev(repository, f"main:{NOTE}"))


# --- trees -----------------------------------------------------------------------------------


async def test_trees_are_listed_in_full_and_remembered(master: Master, repository: Path) -> None:
    root, sessions = rev(repository, "main^{tree}"), rev(repository, "main:autosaves/2026/11")
    found = await master.trees([root, sessions, root])
    assert list(found) == [root, sessions]
    for oid, entries in found.items():
        names = git(repository, "ls-tree", "-z", "--name-only", oid).split(b"\0")[:-1]
        assert sorted(entry.raw_name for entry in entries) == sorted(names)
    assert await master.trees([root, sessions]) == found
    assert master.github.requests == 1


async def test_names_modes_and_kinds_of_every_sort_are_listed_and_proven(
    master: Master, repository: Path
) -> None:
    plant(repository, {b"odd/caf\xe9.md": "x", "odd/ё.md": "x", "odd/new\nline.md": "x"})
    plant(repository, {"odd/run.sh": "x", "odd/sub/a.md": "x"}, mode=EXECUTABLE)
    plant(repository, {"odd/link": "ё.md"}, mode=LINK)
    plant(repository, {"odd/module": NOWHERE}, mode=SUBMODULE)
    oid = rev(repository, "main:odd")
    entries = (await master.trees([oid]))[oid]
    assert tree_oid(entries) == oid
    assert {entry.raw_name: entry.name for entry in entries}[b"caf\xe9.md"] is None
    assert {e.name for e in entries if e.is_file} == {None, "ё.md", "new\nline.md", "run.sh"}
    assert {e.name for e in entries if e.is_directory} == {"sub"}


async def test_the_empty_tree_needs_no_question(master: Master) -> None:
    assert await master.trees([EMPTY_TREE]) == {EMPTY_TREE: []}
    assert master.github.requests == 0


async def test_many_trees_are_read_twenty_a_request(master: Master, repository: Path) -> None:
    plant(repository, {f"many/{n}/a.md": content(n) for n in range(41)})
    root = rev(repository, "main:many")
    below = [entry.oid for entry in (await master.trees([root]))[root]]
    asked = master.github.requests
    assert set(await master.trees(below)) == set(below)
    assert master.github.requests - asked == 3


async def test_an_entry_is_found_at_its_path_through_remembered_trees(
    master: Master, repository: Path
) -> None:
    tree = rev(repository, "main^{tree}")
    entry = await master.entry_at(tree, NOTE)
    assert entry is not None
    assert entry.oid == rev(repository, f"main:{NOTE}")
    asked = master.github.requests
    assert asked == 3
    for path in ("autosaves/projects/absent.md", f"{NOTE}/below", "autosaves//projects", "absent"):
        assert await master.entry_at(tree, path) is None
    assert master.github.requests == asked


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("kind", ["a listing that lacks an entry", "null"])
async def test_a_listing_that_is_not_complete_is_not_used_and_soon_asked_again(
    scripted: Scripted, scripted_client: Client, kind: str
) -> None:
    """A replica that lags answers null for a fresh tree."""
    entries: list[Json] = [
        {"nameRaw": "YQ==", "mode": 33188, "oid": blob_oid(b"a"), "size": 1},
        {"nameRaw": "Yg==", "mode": 33188, "oid": blob_oid(b"b"), "size": 1},
    ]
    oid = tree_oid(read_entries(entries))
    tree: Json = None if kind == "null" else {"oid": oid, "entries": entries[:1]}
    wrong = Said.json({"data": {"repository": {"t0": tree}}})
    right = Said.json({"data": {"repository": {"t0": {"oid": oid, "entries": entries}}}})
    master = Master(scripted_client, "annoris/documents", "main")
    scripted.say(wrong, right)
    assert [entry.name for entry in (await master.trees([oid]))[oid]] == ["a", "b"]

    scripted.say(wrong)
    with pytest.raises(Corrupt, match="does not list the tree"):
        await Master(scripted_client, "annoris/documents", "main").trees([oid])
    assert len(scripted.asked) == 2 + 3


# --- blobs -----------------------------------------------------------------------------------

PLAIN = [
    b"",
    b"no newline at the end",
    b"\xef\xbb\xbf# BOM\r\nand CRLF\r\n",
    "Заметка: ё, 日記, 🌱, e\u0301\n".encode(),
    b"control \x01\x1b\x7f characters\n",
    b"x" * 512_000,
]
LOSSY = [
    b"\x89PNG\r\n\x1a\n\0\0binary",
    b"a NUL \0 in a text\n",
    "Заметка в cp1251\n".encode("cp1251"),
    "UTF-16\n".encode("utf-16"),
    b"\xed\xa0\x80 a lone surrogate\n",
    b"x" * 512_001,
    b"x" + "ё".encode() * 256_000,  # GitHub's cut falls inside a character
]


async def test_texts_come_in_one_request(master: Master, repository: Path) -> None:
    plant(repository, {f"{n}.md": each for n, each in enumerate(PLAIN)})
    assert await master.blobs(wanted(*PLAIN)) == by_oid(*PLAIN)
    assert master.github.requests == 1


async def test_what_text_cannot_carry_comes_raw_byte_for_byte(
    master: Master, repository: Path, github: GitHub
) -> None:
    plant(repository, {f"{n}.md": each for n, each in enumerate(LOSSY)})
    assert await master.blobs(wanted(*LOSSY)) == by_oid(*LOSSY)
    assert github.requests.count("rest") == len(LOSSY)


async def test_blobs_are_read_fifty_a_request_each_once(master: Master, repository: Path) -> None:
    contents = [content(n) for n in range(101)]
    plant(repository, {f"many/{n}.md": each for n, each in enumerate(contents)})
    assert await master.blobs(wanted(*contents, *contents)) == by_oid(*contents)
    assert master.github.requests == 3
    assert await master.blobs(wanted(*contents)) == by_oid(*contents)
    assert master.github.requests == 3, "what an oid names never changes"


def test_requests_are_bounded_by_the_sizes_that_trees_announce() -> None:
    sizes = [10, BYTES_A_REQUEST, 10, 10, BYTES_A_REQUEST * 3, 10]
    cut = [[want.size for want in batch] for batch in batches(Wanted("x", n) for n in sizes)]
    assert cut == [[10], [BYTES_A_REQUEST], [10, 10], [BYTES_A_REQUEST * 3], [10]]
    assert list(batches([])) == []


async def test_memory_is_bounded_by_bytes_not_by_count(master: Master, repository: Path) -> None:
    huge = [b"%d" % n + b"x" * 3_000_000 for n in range(2)]
    some = [b"%d" % n + b"y" * 1_500_000 for n in range(7)]
    plant(repository, {f"{n}.md": each for n, each in enumerate(huge + some)})
    for each in huge + some:
        assert await master.blobs(wanted(each)) == by_oid(each)
    assert master._blobs.currsize <= master._blobs.maxsize == 8_000_000
    assert blob_oid(some[-1]) in master._blobs
    assert blob_oid(some[0]) not in master._blobs
    assert blob_oid(huge[0]) not in master._blobs


async def test_nothing_wanted_is_nothing_asked(master: Master) -> None:
    assert await master.blobs([]) == {}
    assert await master.trees([]) == {}
    assert master.github.requests == 0


@pytest.mark.usefixtures("no_pauses")
async def test_a_blob_that_is_not_there_is_said_so(master: Master) -> None:
    with pytest.raises(Corrupt, match=f"does not have the blob {NOWHERE}"):
        await master.blobs([Wanted(NOWHERE, 1)])


@pytest.mark.parametrize("mode", ["truncated", "corrupted"])
async def test_a_text_that_does_not_hash_to_its_oid_is_fetched_raw(
    master: Master, repository: Path, github: GitHub, mode: Literal["truncated", "corrupted"]
) -> None:
    note = git(repository, "cat-file", "blob", f"main:{NOTE}")
    github.faults.add(Fault(kind="corrupted_blob", mode=mode, operation="query"))
    assert await master.blobs(wanted(note)) == by_oid(note)
    assert github.requests.count("rest") == 1


async def test_a_head_with_a_corrupted_file_keeps_nothing_of_it(
    master: Master, repository: Path, github: GitHub
) -> None:
    note = git(repository, "cat-file", "blob", f"main:{NOTE}")
    github.faults.add(Fault(kind="corrupted_blob", operation="query"))
    _, entry = await master.head_with_file(NOTE)
    assert entry is not None
    assert entry.oid == blob_oid(note)
    assert await master.blobs(wanted(note)) == by_oid(note)
    assert master.github.requests == 2


@pytest.mark.usefixtures("no_pauses")
async def test_content_that_is_wrong_by_both_ways_is_asked_again_and_never_used(
    master: Master, repository: Path, github: GitHub
) -> None:
    note = git(repository, "cat-file", "blob", f"main:{NOTE}")
    github.faults.add(Fault(kind="corrupted_blob", count=2))
    assert await master.blobs(wanted(note)) == by_oid(note)
    other = git(repository, "cat-file", "blob", "main:README.md")
    github.faults.add(Fault(kind="corrupted_blob", count=None))
    with pytest.raises(Corrupt, match="has another hash"):
        await master.blobs(wanted(other))
    github.faults.clear()
    assert await master.blobs(wanted(other)) == by_oid(other)


# --- trouble ---------------------------------------------------------------------------------

HEAVY: dict[str, Fault] = {
    "bad_gateway": Fault(kind="bad_gateway", count=None),
    "gateway_timeout": Fault(kind="gateway_timeout", count=None),
    "something_wrong": Fault(kind="something_wrong", count=None),
    "something_wrong 502": Fault(kind="something_wrong", status=502, count=None),
    "resource_limits": Fault(kind="resource_limits", count=None),
}


@pytest.mark.parametrize("name", HEAVY)
async def test_a_batch_that_is_too_much_is_read_in_halves(
    master: Master, repository: Path, github: GitHub, name: str
) -> None:
    contents = [content(n) for n in range(8)]
    plant(repository, {f"many/{n}/a.md": each for n, each in enumerate(contents)})
    root = rev(repository, "main:many")
    below = [entry.oid for entry in (await master.trees([root]))[root]]
    asked = master.github.requests
    github.faults.add(HEAVY[name].model_copy(update={"count": 2}))
    assert await master.blobs(wanted(*contents)) == by_oid(*contents)
    assert master.github.requests - asked == 5, "8, then 4, then 2 and 2, then the other 4"
    github.faults.add(HEAVY[name].model_copy(update={"count": 1}))
    assert set(await master.trees(below)) == set(below)
    assert master.github.requests - asked == 5 + 3


async def test_a_batch_that_takes_too_long_is_read_in_halves(
    impatient: Master, repository: Path, github: GitHub
) -> None:
    """GitHub's own limit is ours, about: its 502 would not arrive in time."""
    contents = [content(n) for n in range(4)]
    plant(repository, {f"{n}.md": each for n, each in enumerate(contents)})
    github.faults.add(Fault(kind="hang"))
    assert await impatient.blobs(wanted(*contents)) == by_oid(*contents)
    assert impatient.github.requests == 3


async def test_a_batch_that_stays_too_much_fails_at_its_smallest(
    master: Master, repository: Path, github: GitHub
) -> None:
    contents = [content(n) for n in range(50)]
    plant(repository, {f"{n}.md": each for n, each in enumerate(contents)})
    github.faults.add(Fault(kind="bad_gateway", count=None))
    with pytest.raises(TooMuchAsked, match="status 502"):
        await master.blobs(wanted(*contents))
    assert master.github.requests == 6, "50, 25, 12, 6, 3, 1"


async def test_a_read_whose_connection_died_is_sent_once_more(
    master: Master, github: GitHub
) -> None:
    """GitHub closes idle connections, at times just when one is used again."""
    github.faults.add(Fault(kind="dropped"))
    assert (await master.head()).commit == github.head
    assert master.github.requests == 2
    github.faults.add(Fault(kind="dropped", count=None))
    with pytest.raises(Unreachable, match="the connection was lost"):
        await master.head()
    assert master.github.requests == 4


async def test_a_read_that_hangs_is_given_up_in_time(impatient: Master, github: GitHub) -> None:
    github.faults.add(Fault(kind="hang", count=None))
    with pytest.raises(Unreachable, match="the time-out passed"):
        await impatient.head()
    assert impatient.github.requests == 1


TROUBLE: dict[str, tuple[Fault, type[MasterError]]] = {
    "primary limit": (Fault(kind="rate_limit"), RateLimited),
    "primary limit, old": (Fault(kind="rate_limit", type="RATE_LIMITED"), RateLimited),
    "secondary limit": (Fault(kind="secondary_rate_limit", retry_after=7), RateLimited),
    "secondary limit, silent": (Fault(kind="secondary_rate_limit", retry_after=None), RateLimited),
    "secondary limit, 200": (Fault(kind="secondary_rate_limit", status=200), RateLimited),
    "secondary limit, 429": (Fault(kind="secondary_rate_limit", status=429), RateLimited),
    "revoked token": (Fault(kind="bad_credentials"), AccessRefused),
    "repository gone": (Fault(kind="repository_missing"), Missing),
    "forbidden": (Fault(kind="graphql_error", type="FORBIDDEN", message="No"), AccessRefused),
    "unknown error": (Fault(kind="graphql_error", message="What?"), Unreachable),
    "502": (Fault(kind="bad_gateway"), Unreachable),
    "504": (Fault(kind="gateway_timeout"), Unreachable),
    "something wrong": (Fault(kind="something_wrong"), Unreachable),
    "resource limits": (Fault(kind="resource_limits"), Unreachable),
}


@pytest.mark.parametrize("name", TROUBLE)
async def test_trouble_is_one_of_our_errors_once_and_leaves_no_trace(
    master: Master, repository: Path, github: GitHub, name: str
) -> None:
    fault, error = TROUBLE[name]
    note = git(repository, "cat-file", "blob", f"main:{NOTE}")
    tree = rev(repository, "main^{tree}")
    reads: list[Callable[[], Awaitable[object]]] = [
        master.head,
        lambda: master.contains(NOWHERE),
        lambda: master.trees([tree]),
        lambda: master.blobs(wanted(note)),
    ]
    for number, read in enumerate(reads, 1):
        github.faults.add(fault.model_copy())
        with pytest.raises(error) as caught:
            await read()
        assert master.github.requests == number, "no read is sent twice into trouble"
        if isinstance(caught.value, RateLimited):
            assert caught.value.retry_after >= (fault.retry_after or 60)
    assert (await master.trees([tree])).keys() == {tree}
    assert await master.blobs(wanted(note)) == by_oid(note)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind="rate_limit", operation="rest"), RateLimited),
        (Fault(kind="secondary_rate_limit", operation="rest"), RateLimited),
        (Fault(kind="bad_credentials", operation="rest"), AccessRefused),
        (Fault(kind="bad_gateway", operation="rest"), Unreachable),
        (Fault(kind="dropped", operation="rest", count=2), Unreachable),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
async def test_trouble_with_a_raw_blob_is_one_of_our_errors(
    master: Master, repository: Path, github: GitHub, fault: Fault, error: type[MasterError]
) -> None:
    plant(repository, {"image.md": LOSSY[0]})
    github.faults.add(fault.model_copy())
    with pytest.raises(error):
        await master.blobs(wanted(LOSSY[0]))
    github.faults.clear()
    assert await master.blobs(wanted(LOSSY[0])) == by_oid(LOSSY[0])


async def test_reads_at_the_same_time_each_get_their_own_answer(
    master: Master, repository: Path, github: GitHub
) -> None:
    github.faults.add(Fault(kind="latency", ms=1, max_ms=30, count=None))
    contents = [content(n) for n in range(40)]
    plant(repository, {f"{n}.md": each for n, each in enumerate(contents)})
    found = await asyncio.gather(*(master.blobs(wanted(each)) for each in contents))
    assert found == [by_oid(each) for each in contents]


async def test_the_memory_of_our_own_commits_fades(master: Master, github: GitHub) -> None:
    """A branch that was set back is believed again before long."""
    head = await master.head()
    gone = Head(NOWHERE, NOWHERE, head.committed_at, head.seen_at)
    master.remember(head.commit, gone)
    assert (await master.head()).commit == NOWHERE
    assert timedelta(seconds=master._successors.ttl) <= timedelta(seconds=10)
    master._successors.expire(master._successors.timer() + master._successors.ttl)
    assert (await master.head()).commit == github.head
