"""Git over HTTP, starting and stopping, the command, and the making of repositories."""

import asyncio
import contextlib
import random
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from sandbox.github import CannotCreate, GitHub, create_repository
from tests.sandbox.github.client import Client, git
from tests.sandbox.github.conftest import FILES

ROOT = Path(__file__).parents[3]
BUNDLE = ROOT.parent / "shared" / "corpus" / "annoris.bundle"


# --- git over HTTP --------------------------------------------------------------------------


async def test_people_can_clone_push_and_pull_while_it_runs(
    client: Client, github: GitHub, tmp_path: Path
) -> None:
    await git(tmp_path, "clone", "-q", github.clone_url, "clone")
    clone = tmp_path / "clone"
    assert (clone / "README.md").read_bytes() == FILES["README.md"]
    (clone / "mine.md").write_text("mine")
    await git(clone, "add", ".")
    await git(clone, "commit", "-q", "-m", "mine")
    await git(clone, "push", "-q")
    assert await client.text("mine.md") == "mine"
    await client.commit({"theirs.md": b"theirs"})
    await git(clone, "pull", "-q")
    assert (clone / "theirs.md").read_text() == "theirs"
    assert "error" not in await git(clone, "fsck")


async def test_large_pushes_arrive_chunked_and_whole(
    github: GitHub, path: Path, tmp_path: Path
) -> None:
    """Above http.postBuffer git sends the pack in chunks, of a length it does not announce."""
    await git(tmp_path, "clone", "-q", github.clone_url, "clone")
    clone = tmp_path / "clone"
    (clone / "big.bin").write_bytes(random.Random(1).randbytes(3_000_000))
    await git(clone, "add", ".")
    await git(clone, "commit", "-q", "-m", "big")
    await git(clone, "-c", "http.postBuffer=1000", "push", "-q")
    assert github.head == await git(clone, "rev-parse", "HEAD")
    await git(path, "fsck", "--full")


async def test_a_fetch_with_many_haves_is_sent_zipped(
    client: Client, github: GitHub, tmp_path: Path
) -> None:
    """Git zips requests over a kilobyte; a clone with many commits of its own makes such."""
    await git(tmp_path, "clone", "-q", github.clone_url, "clone")
    clone = tmp_path / "clone"
    for number in range(40):
        await git(clone, "commit", "-q", "--allow-empty", "-m", str(number))
    await client.commit({"theirs.md": b"theirs"})
    await git(clone, "fetch", "-q")
    assert await git(clone, "rev-parse", "origin/main") == github.head


async def test_of_two_pushes_on_the_same_head_one_is_rejected(
    github: GitHub, tmp_path: Path
) -> None:
    outcomes = []
    for name in ("one", "two"):
        await git(tmp_path, "clone", "-q", github.clone_url, name)
        await git(tmp_path / name, "commit", "-q", "--allow-empty", "-m", name)
    outcomes = await asyncio.gather(
        *(git(tmp_path / name, "push", "-q", check=False) for name in ("one", "two"))
    )
    assert sorted(outcome[0] for outcome in outcomes) == ["0", "1"]


async def test_other_repositories_are_not_served(github: GitHub, tmp_path: Path) -> None:
    outcome = await git(tmp_path, "clone", "-q", f"{github.url}/annoris/other.git", check=False)
    assert outcome.startswith("128")


# --- life -----------------------------------------------------------------------------------


async def test_it_starts_again_on_the_same_port_with_everything_kept(
    client: Client, github: GitHub
) -> None:
    url, oid = github.url, (await client.commit({"a.md": b"1"})).commit_oid
    await github.stop()
    await github.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.head()
    await github.start()
    await github.start()
    assert github.url == url
    assert await client.head() == oid
    assert github.requests.count("mutation") == 1


async def test_nothing_is_left_running_after_a_stop(path: Path, tmp_path: Path) -> None:
    async with GitHub(path) as github:
        cloning = asyncio.ensure_future(
            git(tmp_path, "clone", "-q", github.clone_url, "clone", check=False)
        )
        await github.requests.wait_for(1, "git")
    await cloning
    current = asyncio.current_task()
    assert [task for task in asyncio.all_tasks() if task is not current] == []


async def test_the_command_serves_until_it_is_terminated(path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sandbox.github",
        "--repo",
        str(path),
        "--token",
        "secret",
        "--name",
        "me/mine",
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    line.split()[0],
                    json={"query": '{ repository(owner: "me", name: "mine") { name } }'},
                    headers={"Authorization": "bearer secret"},
                ) as response,
            ):
                assert (await response.json())["data"] == {"repository": {"name": "mine"}}
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_server_that_was_killed_loses_no_commit_it_answered(path: Path) -> None:
    """The ref is moved before the answer leaves, so a SIGKILL afterwards changes nothing."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sandbox.github",
        "--repo",
        str(path),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        line = (await process.stdout.readline()).decode()
    stand_in = GitHub(path, port=int(line.split("/")[2].split(":")[1]))
    async with aiohttp.ClientSession() as session:
        oid = (await Client(stand_in, session).commit({"a.md": b"1"})).commit_oid
    process.kill()
    await process.wait()
    assert await git(path, "rev-parse", "main") == oid
    async with stand_in, aiohttp.ClientSession() as session:
        assert await Client(stand_in, session).head() == oid


# --- making a repository --------------------------------------------------------------------


async def listing(path: Path) -> list[str]:
    return (await git(path, "ls-tree", "-r", "--format=%(objectmode) %(path)", "main")).split("\n")


async def test_a_directory_of_files_becomes_one_commit(path: Path) -> None:
    assert await git(path, "log", "--format=%an %s", "main") == "Annoris Sandbox Initial commit"
    assert await listing(path) == [
        "100644 README.md",
        "100644 autosaves/2025/10/autosave_2025-10-20_one.md",
        "100644 autosaves/2025/10/autosave_2025-10-21_two.md",
        "100644 autosaves/projects/alpha.md",
        "120000 latest.md",
        "100755 tools/run.sh",
    ]


async def test_odd_names_survive(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    names = ['quo"te.md', "back\\slash.md", "Привет мир.md", "a  b .md", "new\nline.md"]
    for name in names:
        (source / name).write_text(name)
    create_repository(tmp_path / "r.git", source)
    found = await git(tmp_path / "r.git", "ls-tree", "-z", "--name-only", "main")
    assert sorted(found.strip("\0").split("\0")) == sorted(names)


async def test_without_a_source_there_is_a_readme(tmp_path: Path) -> None:
    assert create_repository(tmp_path / "r.git", None) == "main"
    assert await listing(tmp_path / "r.git") == ["100644 README.md"]


async def test_a_clone_is_copied_and_its_only_branch_served_as_main(tmp_path: Path) -> None:
    source = tmp_path / "source"
    await git(tmp_path, "init", "-q", "-b", "trunk", "source")
    (source / "a.md").write_text("a")
    await git(source, "add", ".")
    await git(source, "commit", "-q", "-m", "one")
    oid = await git(source, "rev-parse", "HEAD")
    assert create_repository(tmp_path / "r.git", source) == "main"
    assert await git(tmp_path / "r.git", "rev-parse", "main", "HEAD") == f"{oid}\n{oid}"
    assert await git(tmp_path / "r.git", "branch", "--format=%(refname:short)") == "main"
    assert await git(source, "branch", "--format=%(refname:short)") == "trunk"
    assert await git(tmp_path / "r.git", "remote") == ""


async def test_a_bundle_is_unpacked(tmp_path: Path) -> None:
    if not BUNDLE.is_file():
        pytest.skip("the corpus is not at ../shared/corpus/annoris.bundle")
    create_repository(tmp_path / "r.git", BUNDLE)
    assert await git(tmp_path / "r.git", "rev-list", "--count", "main") == "95"
    async with GitHub(tmp_path / "r.git") as github, aiohttp.ClientSession() as session:
        client = Client(github, session)
        answer = await client.repository('object(expression: "HEAD:autosaves") { __typename }')
        assert answer.repository["object"] == {"__typename": "Tree"}


def test_what_is_there_already_is_not_overwritten(path: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotCreate, match="exists already"):
        create_repository(path, None)
    with pytest.raises(CannotCreate, match="neither"):
        create_repository(tmp_path / "other.git", tmp_path / "nothing")
