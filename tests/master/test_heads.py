"""Heads over real HTTP: which commit is the master, what it contains, and what lies at a path."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.documents import Json, blob_oid
from api.master.credentials import FixedToken
from api.master.errors import (
    Missing,
    TooMuchAsked,
    Unreachable,
)
from api.master.fetching import Wanted
from api.master.master import Head, Master
from api.master.transport import GitHub as Client
from sandbox.github import Fault, GitHub, Limits
from tests.clone import Clone, git
from tests.master.planting import EXECUTABLE, LINK, SUBMODULE, plant, rev
from tests.master.scripted import Said, Scripted

NOWHERE = "0123456789" * 4
NOTE = "autosaves/projects/reading-room.md"


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
        Client(empty.url, FixedToken(empty.token), timeout=10) as client,
    ):
        master = Master(client, empty.hosting.name, "main")
        with pytest.raises(Missing, match="Create it with a first commit"):
            await master.head()
        with pytest.raises(Missing):
            await master.head_with(["any.md"])


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
    head, entries = await master.head_with(["ours.md"])
    entry = entries["ours.md"]
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


# --- the head and what lies at paths, in one request -----------------------------------------


async def test_files_come_with_the_head_and_their_content_with_the_files(
    master: Master, repository: Path
) -> None:
    head, entries = await master.head_with([NOTE, "README.md"], contents=[NOTE])
    assert head.commit == rev(repository, "main")
    entry, other = entries[NOTE], entries["README.md"]
    assert entry is not None
    assert other is not None
    assert entry.is_file
    assert (entry.oid, other.oid) == (
        rev(repository, f"main:{NOTE}"),
        rev(repository, "main:README.md"),
    )
    text = git(repository, "cat-file", "blob", entry.oid)
    assert entry.size == len(text)
    assert await master.blobs([Wanted(entry.oid, entry.size)]) == {entry.oid: text}
    assert master.github.requests == 1


async def test_what_is_not_there_is_none_in_one_request_for_all(master: Master) -> None:
    absent = [
        "absent.md",
        "autosaves/absent/a.md",
        f"{NOTE}/below.md",
        "Rate Limits.md",
        "ё/日記.md",
    ]
    _, entries = await master.head_with([*absent, NOTE], contents=absent[:2])
    assert {path: entries[path] for path in absent} == dict.fromkeys(absent)
    assert entries[NOTE] is not None
    assert master.github.requests == 1


async def test_a_directory_is_told_from_a_file(master: Master, repository: Path) -> None:
    for contents in ([], ["autosaves"]):
        entry = (await master.head_with(["autosaves"], contents=contents))[1]["autosaves"]
        assert entry is not None
        assert entry.is_directory
        assert entry.oid == rev(repository, "main:autosaves")


async def test_links_and_submodules_are_no_files(master: Master, repository: Path) -> None:
    plant(repository, {"link.md": "README.md"}, mode=LINK)
    plant(repository, {"module": NOWHERE}, mode=SUBMODULE)
    plant(repository, {"run.sh": "#!/bin/sh\n"}, mode=EXECUTABLE)
    _, entries = await master.head_with(["link.md", "module", "run.sh"])
    kinds = {path: entry and (entry.is_file, entry.is_directory) for path, entry in entries.items()}
    assert kinds == {"link.md": (False, False), "module": (False, False), "run.sh": (True, False)}


@pytest.mark.parametrize("contents", [[], ["autosaves/huge.md"]])
async def test_a_file_over_10_mb_is_there_although_github_will_not_say_so(
    master: Master, repository: Path, contents: list[str]
) -> None:
    """Taken for absent, it would be overwritten."""
    huge = b"x" * (10 * 1024 * 1024 + 1)
    plant(repository, {"autosaves/huge.md": huge})
    head, entries = await master.head_with(["autosaves/huge.md", NOTE], contents=contents)
    assert head.commit == rev(repository, "main")
    entry = entries["autosaves/huge.md"]
    assert entry is not None
    assert entries[NOTE] is not None
    assert (entry.oid, entry.size) == (blob_oid(huge), len(huge))


async def test_a_head_with_too_much_beside_it_is_read_in_smaller_steps(
    master: Master, github: GitHub, repository: Path
) -> None:
    github.faults.add(Fault(kind="resource_limits"))
    head, entries = await master.head_with([NOTE], contents=[NOTE])
    entry = entries[NOTE]
    assert entry is not None
    assert (head.commit, entry.oid) == (rev(repository, "main"), rev(repository, f"main:{NOTE}"))
