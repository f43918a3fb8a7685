"""The compare-and-swap holds against other API calls and against git processes alike."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from sandbox.github import Fault, GitHub, Limits
from sandbox.github.repository import RefLocked, RefMoved, Repository
from tests.sandbox.github.client import Client, git


async def test_of_two_commits_on_the_same_head_one_lands(client: Client, path: Path) -> None:
    head = await client.head()
    answers = await asyncio.gather(
        *(client.commit({f"{number}.md": b"1"}, head=head) for number in range(8))
    )
    landed = [answer for answer in answers if not answer.errors]
    assert len(landed) == 1
    assert client.github.head == landed[0].commit_oid
    assert await git(path, "rev-list", "--count", f"{head}..main") == "1"
    for answer in answers:
        if answer.errors:
            message = answer.error["message"]
            assert answer.error.get("type") == "STALE_DATA" or "but expected" in message


async def test_a_ref_that_moves_during_the_call_is_told_in_gits_words(
    client: Client, github: GitHub
) -> None:
    before = await client.head()
    fault = github.faults.add(Fault(kind="ref_moved", files={"theirs.md": "theirs"}))
    answer = await client.commit({"ours.md": b"ours"})
    assert answer.error["message"] == (
        f"Ref refs/heads/main is at {github.head} but expected {before}"
    )
    assert fault.struck == 1
    assert await client.text("theirs.md") == "theirs"
    assert await client.text("ours.md") is None


async def test_the_swap_sees_what_git_did_after_the_ref_was_read(path: Path) -> None:
    """Git moves the ref between our reading and our writing: the library must notice."""
    ours = Repository(path)
    head = ours.ref("refs/heads/main")
    assert head is not None
    tree = ours.commit(head).tree
    new = await git(path, "commit-tree", "-p", head, "-m", "theirs", tree)
    reference = ours._repo.references["refs/heads/main"]
    await git(path, "update-ref", "refs/heads/main", new, head)
    with pytest.raises(Exception, match="old reference value does not match"):
        reference.set_target(head)
    with pytest.raises(RefMoved) as moved:
        ours.swap("refs/heads/main", head, head)
    assert moved.value.actual == new
    assert ours.ref("refs/heads/main") == new


async def test_a_branch_that_git_holds_locked_is_waited_for(client: Client, path: Path) -> None:
    lock = path / "refs/heads/main.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    ours = Repository(path)
    head = ours.ref("refs/heads/main")
    assert head is not None
    with pytest.raises(RefLocked):
        ours.swap("refs/heads/main", head, head)
    waiting = asyncio.ensure_future(client.commit({"a.md": b"1"}))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    lock.unlink()
    assert (await waiting).commit_oid == client.github.head


async def test_commits_and_pushes_from_many_sides_lose_nothing(
    client: Client, github: GitHub, path: Path, tmp_path: Path
) -> None:
    """Every write that was acknowledged is in the one history that results."""
    github.limits = Limits.off()
    acknowledged: list[str] = []

    async def commit(number: int) -> None:
        for round_ in range(5):
            name = f"api-{number}-{round_}.md"
            answer = await client.commit({name: name.encode()})
            while answer.errors:
                answer = await client.commit({name: name.encode()})
            acknowledged.append(name)

    async def push(number: int) -> None:
        clone = tmp_path / f"clone-{number}"
        await git(tmp_path, "clone", "-q", github.clone_url, str(clone))
        for round_ in range(3):
            name = f"push-{number}-{round_}.md"
            (clone / name).write_text(name)
            await git(clone, "add", ".")
            await git(clone, "commit", "-q", "-m", name)
            while not (await git(clone, "push", "-q", check=False)).startswith("0"):
                await git(clone, "pull", "-q", "--rebase")
            acknowledged.append(name)

    async with asyncio.timeout(60):
        await asyncio.gather(*map(commit, range(3)), *map(push, range(2)))
    names = set((await git(path, "ls-tree", "--name-only", "main")).split())
    assert names >= set(acknowledged)
    assert len(acknowledged) == 21
    log = (await git(path, "log", "--format=parents %P", "main")).splitlines()
    assert all(len(line.split()) <= 2 for line in log)
    assert len(log) == 22


async def test_git_processes_and_the_api_never_both_win_a_swap(
    client: Client, github: GitHub, path: Path
) -> None:
    """Both sides try to move the same ref from the same value, again and again."""
    github.limits = Limits.off()
    for number in range(15):
        head = await client.head()
        tree = (await git(path, "rev-parse", "main^{tree}")).strip()
        theirs = await git(path, "commit-tree", "-p", head, "-m", f"theirs {number}", tree)
        outcome, answer = await asyncio.gather(
            git(path, "update-ref", "refs/heads/main", theirs, head, check=False),
            client.commit({"a.md": b"%d" % number}, head=head),
        )
        they_won, we_won = outcome.startswith("0"), not answer.errors
        assert they_won != we_won
        assert github.head == (theirs if they_won else answer.commit_oid)


async def test_a_client_that_hangs_up_leaves_a_whole_commit_or_none(
    client: Client, github: GitHub, path: Path
) -> None:
    before = await client.head()
    fault = github.faults.add(Fault(kind="latency", ms=60_000, when="after"))
    async with aiohttp.ClientSession() as session:
        asking = asyncio.ensure_future(Client(github, session).commit({"a.md": b"1"}))
        await fault.wait_until_struck()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert await git(path, "rev-list", "--count", f"{before}..main") == "1"
    assert await client.text("a.md") == "1"
