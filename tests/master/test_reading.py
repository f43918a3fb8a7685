"""Trees and blobs over real HTTP: what is asked, what it costs, and that all of it is proven."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

from api.documents import Json, blob_oid
from api.master.credentials import FixedToken
from api.master.errors import (
    AccessRefused,
    Corrupt,
    MasterError,
    Missing,
    RateLimited,
    TooMuchAsked,
    Unreachable,
)
from api.master.fetching import BYTES_A_REQUEST, Portion, Wanted
from api.master.master import Head, Master
from api.master.transport import GitHub as Client
from api.master.trees import EMPTY_TREE, read_entries, tree_oid
from sandbox.github import Fault, GitHub
from tests.clone import git
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
    async with Client(github.url, FixedToken(github.token), timeout=3) as client:
        yield Master(client, github.hosting.name, github.hosting.branch)


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


async def test_many_trees_are_read_a_hundred_a_request(master: Master, repository: Path) -> None:
    plant(repository, {f"many/{n}/a.md": content(n) for n in range(201)})
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


async def test_blobs_are_read_a_hundred_a_request_each_once(
    master: Master, repository: Path
) -> None:
    contents = [content(n) for n in range(201)]
    plant(repository, {f"many/{n}.md": each for n, each in enumerate(contents)})
    assert await master.blobs(wanted(*contents, *contents)) == by_oid(*contents)
    assert master.github.requests == 3
    assert await master.blobs(wanted(*contents)) == by_oid(*contents)
    assert master.github.requests == 3, "what an oid names never changes"


def test_requests_are_bounded_by_the_sizes_that_trees_announce() -> None:
    sizes = [10, BYTES_A_REQUEST, 10, 10, BYTES_A_REQUEST * 3, 10]
    portion, left, cut = Portion(100), [Wanted("x", n) for n in sizes], []
    while left:
        batch = portion.of(left)
        cut.append([want.size for want in batch])
        left = left[len(batch) :]
    assert cut == [[10], [BYTES_A_REQUEST], [10, 10], [BYTES_A_REQUEST * 3], [10]]


def test_a_portion_halves_when_github_gives_up_and_grows_back_slowly() -> None:
    portion, many = Portion(100), [Wanted("x", 0)] * 200
    portion.shrink(100)
    portion.shrink(30)
    assert len(portion.of(many)) == 15, "half of what was asked, not of what was allowed"
    sizes = []
    for _ in range(10):
        portion.grow()
        sizes.append(len(portion.of(many)))
    assert sizes == [19, 24, 31, 39, 49, 62, 78, 98, 100, 100]
    for _ in range(10):
        portion.shrink(100)
    assert len(portion.of(many)) == 1


async def test_what_was_too_much_once_is_not_asked_again(
    master: Master, repository: Path, github: GitHub
) -> None:
    contents = [content(n) for n in range(60)]
    plant(repository, {f"many/{n}.md": each for n, each in enumerate(contents)})
    github.faults.add(Fault(kind="bad_gateway", count=2))
    assert await master.blobs(wanted(*contents[:16])) == by_oid(*contents[:16])
    asked = master.github.requests
    assert await master.blobs(wanted(*contents[16:])) == by_oid(*contents[16:])
    assert master.github.requests - asked > 1


async def test_memory_is_bounded_by_bytes_not_by_count(master: Master, repository: Path) -> None:
    huge = [b"%d" % n + b"x" * 1_500_000 for n in range(2)]
    some = [b"%d" % n + b"y" * 750_000 for n in range(7)]
    plant(repository, {f"{n}.md": each for n, each in enumerate(huge + some)})
    for each in huge + some:
        assert await master.blobs(wanted(each)) == by_oid(each)
    assert master._blobs.currsize <= master._blobs.maxsize == 4_000_000
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
    entry = (await master.head_with([NOTE], contents=[NOTE]))[1][NOTE]
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
