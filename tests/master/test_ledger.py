"""The history is the record of what was carried out under which key."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.master.committing import Commit
from api.master.errors import MasterError, Missing
from api.master.ledger import Ledger
from api.master.master import Master
from api.master.messages import Key, Note, Record, compose
from sandbox.github import Fault, GitHub
from tests.clone import git
from tests.master import planting
from tests.master.planting import rev


def key(number: int) -> Key:
    return Key(f"{number:032x}", f"{number + 1:032x}")


def keyed(number: int) -> str:
    headline, body = compose([Note(write_id=f"w{number}", message="Save", key=key(number))])
    return f"{headline}\n\n{body}"


def plant(repository: Path, files: dict[str | bytes, str | bytes], messages: Sequence[str]) -> str:
    """Commits of today, one for each message."""
    return planting.plant(repository, files, messages=tuple(messages), at=int(time.time()))


@pytest.fixture
def ledger(master: Master) -> Ledger:
    return Ledger(master)


async def found(ledger: Ledger, head: str, *numbers: int) -> dict[int, str]:
    """The commits in which the keys with these numbers landed."""
    landed = await ledger.find([key(number).key for number in numbers], head)
    assert all(landed[key(n).key].record.key == key(n) for n in numbers if key(n).key in landed)
    return {n: landed[key(n).key].commit.oid for n in numbers if key(n).key in landed}


async def test_a_key_is_found_in_the_commit_that_carries_it(
    ledger: Ledger, master: Master, repository: Path
) -> None:
    commit = plant(repository, {"a.md": "a"}, messages=(keyed(1),))
    head = plant(repository, {"b.md": "b"}, messages=("Somebody's",))

    landed = (await ledger.find([key(1).key, key(2).key], head))[key(1).key]

    assert landed.record == Record("w1", key(1), ())
    assert landed.commit.oid == commit
    assert landed.commit.parent == rev(repository, f"{commit}^")
    assert landed.commit.tree == rev(repository, f"{commit}^{{tree}}")
    assert await found(ledger, head, 2) == {}
    assert master.github.requests == 1, "what is known is not asked for again"


async def test_only_what_is_new_is_asked_for(
    ledger: Ledger, master: Master, repository: Path
) -> None:
    old = plant(repository, {"a.md": "a"}, messages=[keyed(n) for n in range(150)])
    assert len(await found(ledger, old, *range(150))) == 150
    before = master.github.requests

    new = plant(repository, {"b.md": "b"}, messages=(keyed(200),))

    assert set(await found(ledger, new, 149, 200)) == {149, 200}
    assert (before, master.github.requests) == (2, 3)


async def test_our_own_commit_is_known_without_asking(
    ledger: Ledger, master: Master, repository: Path
) -> None:
    old = rev(repository, "main")
    await found(ledger, old, 1)
    commit = plant(repository, {"a.md": "a"}, messages=(keyed(1),))
    before = master.github.requests

    ledger.remember(
        Commit(commit, old, datetime.now(UTC), None, {}),
        [Record("w1", key(1), ()), Record("w", None, ())],
    )

    assert await found(ledger, commit, 1) == {1: commit}
    assert master.github.requests == before


async def test_a_commit_on_a_head_that_is_not_known_changes_nothing(
    ledger: Ledger, repository: Path
) -> None:
    ledger.remember(Commit("1" * 40, "2" * 40, datetime.now(UTC), None, {}), [])

    assert await found(ledger, rev(repository, "main"), 1) == {}


async def test_of_two_commits_with_one_key_the_first_counts(
    ledger: Ledger, repository: Path
) -> None:
    """Somebody picked the commit from another branch, or reverted the revert."""
    first = plant(repository, {"a.md": "a"}, messages=(keyed(1),))
    head = plant(repository, {"a.md": "b"}, messages=("Revert", keyed(1)))

    assert await found(ledger, head, 1) == {1: first}

    later = plant(repository, {"a.md": "c"}, messages=(keyed(1),))
    assert await found(ledger, later, 1) == {1: first}


async def test_what_a_rewritten_history_lost_was_not_carried_out(
    ledger: Ledger, repository: Path
) -> None:
    base = rev(repository, "main")
    lost = plant(repository, {"a.md": "a"}, messages=(keyed(1),))
    assert await found(ledger, lost, 1) == {1: lost}

    git(repository, "update-ref", "refs/heads/main", base)
    other = plant(repository, {"b.md": "b"}, messages=(keyed(2),))

    assert await found(ledger, other, 1, 2) == {2: other}
    assert await found(ledger, base, 1, 2) == {}


async def test_a_key_that_was_merged_is_found(ledger: Ledger, repository: Path) -> None:
    base = rev(repository, "main")
    await found(ledger, base, 1)
    ours = plant(repository, {"a.md": "a"}, messages=(keyed(1),))
    tree = rev(repository, f"{ours}^{{tree}}")
    theirs = git(repository, "commit-tree", tree, "-p", base, "-m", "Theirs").decode().strip()
    merge = (
        git(repository, "commit-tree", tree, "-p", theirs, "-p", ours, "-m", "Merge")
        .decode()
        .strip()
    )

    assert await found(ledger, merge, 1) == {1: ours}


async def test_a_quoted_trailer_is_no_write(ledger: Ledger, repository: Path) -> None:
    head = plant(repository, {"a.md": "a"}, messages=(f"{keyed(1)}\n\nas somebody wrote",))

    assert await found(ledger, head, 1) == {}


async def test_a_walk_that_is_broken_off_goes_on_where_it_was(
    ledger: Ledger, master: Master, repository: Path, github: GitHub
) -> None:
    old = plant(repository, {"a.md": "a"}, messages=[keyed(n) for n in range(350)])
    github.faults.add(Fault(kind="graphql_error", operation_name="HistoryOf", nth=3))
    with pytest.raises(MasterError):
        await found(ledger, old, 1)
    assert master.github.requests == 3

    new = plant(repository, {"b.md": "b"}, messages=(keyed(400),))

    assert len(await found(ledger, new, *range(350), 400)) == 351
    assert master.github.requests == 6, "one for what is new, two for the rest"


@pytest.mark.usefixtures("no_pauses")
async def test_a_head_that_github_does_not_know_is_missing(
    ledger: Ledger, repository: Path
) -> None:
    with pytest.raises(Missing):
        await found(ledger, "1" * 40, 1)
    assert await found(ledger, rev(repository, "main"), 1) == {}


async def test_keys_are_good_for_some_days(master: Master, repository: Path) -> None:
    head = plant(repository, {"a.md": "a"}, messages=(keyed(1),))

    assert await found(Ledger(master, days=1), head, 1) == {1: head}
    assert await found(Ledger(master, days=-1), head, 1) == {}


async def test_a_commit_whose_clock_was_wrong_hides_nothing(
    master: Master, repository: Path
) -> None:
    plant(repository, {"a.md": "a"}, messages=[keyed(1), *["Somebody's"] * 150])
    planting.plant(repository, {"b.md": "b"}, messages=("From the past",), at=1_000_000_000)
    head = plant(repository, {"c.md": "c"}, messages=("Today",))

    assert set(await found(Ledger(master), head, 1)) == {1}


async def test_what_is_older_than_keys_are_good_for_is_not_read(
    master: Master, repository: Path
) -> None:
    old = ("Somebody's",) * 450
    planting.plant(repository, {"a.md": "a"}, messages=old, at=1_000_000_000)
    head = plant(repository, {"b.md": "b"}, messages=[keyed(1), *["Today"] * 20])

    assert set(await found(Ledger(master), head, 1)) == {1}
    assert master.github.requests == 2, "a page with something new, and one that is old throughout"
