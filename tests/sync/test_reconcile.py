"""After every reconcile the cache is the master, byte for byte, and only what changed was read."""

import asyncio
import random
import unicodedata
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.cache.cache import Cache
from api.cache.changing import IndexChange
from api.cache.database import CacheUnavailable, Database
from api.cache.migrate import migrate
from api.cache.snapshot import CachedHead
from api.documents import Collection, Layout
from api.master.credentials import FixedToken
from api.master.errors import AccessRefused, MasterError, Missing
from api.master.transport import GitHub as Client
from api.sync.reconcile import Outcome
from sandbox.github import Fault, GitHub, Limits, create_repository
from sandbox.postgres import UNSAFE_BUT_QUICK, Postgres
from tests.cache.waiting import until
from tests.clone import Clone, git
from tests.sync.conftest import Side
from tests.sync.oracle import EXECUTABLE, SUBMODULE, SYMLINK, commit, head_of, rows_of

DRILL = "autosaves/2026/11/autosave_2026-11-17_outage-drill.md"
SEEDS = "autosaves/2026/11/autosave_2026-11-12_seed-list.md"
WHY = "autosaves/2026/10/autosave_2026-10-20_why-markdown.md"
GARDEN = "autosaves/projects/kitchen-garden.md"


async def test_the_first_build(side: Side) -> None:
    report = await side.sync()
    assert (report.outcome, report.added, report.changed, report.removed) == (
        Outcome.APPLIED,
        10,
        0,
        0,
    )
    # One request for each level of directories, and one for all bodies.
    assert side.asked == ["Head", *["Trees"] * 4, "CommitBefore", "Blobs"]
    assert report.requests == len(side.asked)
    await side.check()


async def test_no_change_is_one_request_and_no_row(side: Side) -> None:
    await side.build()
    rows = await rows_of(side.cache)
    async with side.cache.snapshot() as snapshot:
        before = snapshot.head
    sent = side.cache.database.statements

    report = await side.sync()

    assert (report.outcome, report.requests) == (Outcome.UNCHANGED, 1)
    assert side.asked == ["Head"]
    assert side.cache.database.statements - sent == 1
    assert await rows_of(side.cache) == rows
    async with side.cache.snapshot() as snapshot:
        assert before is not None
        assert snapshot.head is not None
        assert snapshot.head.commit == before.commit
        assert snapshot.head.seen_at > before.seen_at


async def test_a_commit_that_touches_no_document_moves_the_head_alone(side: Side) -> None:
    await side.build()
    commit(side.repository, {"tools/run.sh": b"#!/bin/sh\n", "README.md": b"changed\n"})
    report = await side.sync()
    assert (report.outcome, report.added, report.changed, report.removed) == (
        Outcome.APPLIED,
        0,
        0,
        0,
    )
    assert side.asked == ["Head", "Compare", "Trees"]
    await side.check()


async def test_an_empty_commit_reads_no_tree(side: Side) -> None:
    await side.build()
    commit(side.repository, {})
    assert (await side.sync()).outcome is Outcome.APPLIED
    assert side.asked == ["Head", "Compare"]
    await side.check()


NEW, UP = b"# New\n", ["Head", "Compare"]
CHANGES: dict[str, tuple[Mapping[str | bytes, object], tuple[int, int, int], list[str]]] = {
    # what is committed; added, changed, removed; what GitHub is asked for
    "edit": ({DRILL: NEW}, (0, 1, 0), [*UP, *["Trees"] * 4, "Blobs"]),
    "add": ({"autosaves/new.md": NEW}, (1, 0, 0), [*UP, "Trees", "Trees", "Blobs"]),
    "add below": ({"autosaves/2027/01/a.md": NEW}, (1, 0, 0), [*UP, *["Trees"] * 4, "Blobs"]),
    "delete": ({DRILL: None}, (0, 0, 1), [*UP, *["Trees"] * 4]),
    "delete a directory": ({"autosaves/2026": None}, (0, 0, 6), [*UP, "Trees", "Trees"]),
    "delete everything": ({"autosaves": None}, (0, 0, 10), [*UP, "Trees"]),
    "directory to file": (
        {"autosaves/2026": None, "autosaves/2026.md": NEW},
        (1, 0, 6),
        [*UP, "Trees", "Trees", "Blobs"],
    ),
    "session to directory": (
        {DRILL: None, f"{DRILL}/inside.md": NEW},
        (1, 0, 1),
        [*UP, *["Trees"] * 5, "Blobs"],
    ),
    "executable": (
        {"autosaves/x.md": (EXECUTABLE, NEW)},
        (1, 0, 0),
        [*UP, *["Trees"] * 2, "Blobs"],
    ),
    "outside": ({"notes/a.md": NEW, "b.md": NEW}, (0, 0, 0), [*UP, "Trees"]),
    "another root": ({"projects/a.md": NEW}, (1, 0, 0), [*UP, "Trees", "Trees", "Blobs"]),
    "no document": (
        {"autosaves/a.txt": NEW, "autosaves/md": NEW},
        (0, 0, 0),
        [*UP, *["Trees"] * 2],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change(side: Side, name: str) -> None:
    files, counts, asked = CHANGES[name]
    await side.build()
    commit(side.repository, files)  # type: ignore[arg-type]
    report = await side.sync()
    assert (report.added, report.changed, report.removed) == counts
    assert side.asked == asked
    await side.check()


async def test_a_document_that_became_executable_is_still_provable(side: Side) -> None:
    """Nothing that people see has changed, but the tree of its directory has."""
    await side.build()
    same = git(side.repository, "cat-file", "blob", f"main:{DRILL}")
    commit(side.repository, {DRILL: (EXECUTABLE, same)})
    report = await side.sync()
    assert (report.added, report.changed, report.removed) == (0, 1, 0)
    assert "Blobs" not in side.asked
    await side.check()


MOVES: dict[str, Mapping[str, str]] = {
    "rename": {DRILL: "autosaves/2026/11/renamed.md"},
    "only its case": {DRILL: DRILL.replace("outage", "OUTAGE")},
    "to another collection": {DRILL: "autosaves/projects/drill.md"},
    "a directory": {DRILL: DRILL.replace("/11/", "/12/"), SEEDS: SEEDS.replace("/11/", "/12/")},
    "two that change places": {DRILL: SEEDS, SEEDS: DRILL},
}


@pytest.mark.parametrize("name", MOVES)
async def test_what_only_moved_is_not_fetched_again(side: Side, name: str) -> None:
    await side.build()
    contents = {
        new: git(side.repository, "show", f"main:{old}") for old, new in MOVES[name].items()
    }
    commit(side.repository, dict.fromkeys(MOVES[name]) | contents)  # type: ignore[operator]
    await side.sync()
    assert "Blobs" not in side.asked
    await side.check()


ODD: dict[str, Mapping[str | bytes, object]] = {
    "not UTF-8": {"autosaves/a.md": b"# caf\xe9\n"},
    "binary": {"autosaves/a.md": b"\x89PNG\r\n\x1a\n\0\0\0"},
    "NUL": {"autosaves/a.md": b"# a\0b\n"},
    "too large": {"autosaves/a.md": b"# T\n" * 3_000},
    "just not too large": {"autosaves/a.md": b"x" * 10_000},
    "empty": {"autosaves/a.md": b""},
    "BOM": {"autosaves/a.md": b"\xef\xbb\xbf# T\r\n"},
    "UTF-16": {"autosaves/a.md": "# T\n".encode("utf-16")},
    "CRLF and no end": {"autosaves/a.md": b"# T\r\n\r\nx"},
    "old line ends": {"autosaves/a.md": "# T\r\rx\x0b\x0c\x85\u2028".encode()},
    "symbolic link": {"autosaves/a.md": (SYMLINK, b"../README.md")},
    "submodule": {"autosaves/a.md": (SUBMODULE, b"1" * 40)},
    "a directory with the name of a document": {"autosaves/a.md/b.md": NEW},
    "nothing but an extension": {"autosaves/.md": NEW, "autosaves/.hidden.md": NEW},
    "both normal forms": {
        f"autosaves/{unicodedata.normalize(form, 'йод')}.md": NEW for form in ("NFC", "NFD")
    },
    "both cases": {"autosaves/Я.md": NEW, "autosaves/я.md": b"# other\n", "AUTOSAVES/a.md": NEW},
    "emoji": {"autosaves/🔥/👩\u200d🚀.md": NEW},
    "wild cards": {"autosaves/%.md": NEW, "autosaves/_.md": NEW, "autosaves/\\.md": NEW},
    "quotes and breaks": {"autosaves/a\n'\"b.md": NEW, "autosaves/ .md": NEW},
    "a name that is not UTF-8": {b"autosaves/caf\xe9.md": NEW, b"autosaves/\xe9/a.md": NEW},
    "a long name": {f"autosaves/{'я' * 126}.md": NEW},
    "a thousand tags": {
        "autosaves/a.md": b"---\ntags: [%b]\n---\n" % b", ".join(b"t%d" % i for i in range(1000))
    },
    "odd numbers": {"autosaves/a.md": b"---\nn: 1e23\nm: 1e400\no: -0.0\np: 0x1F\n---\n"},
    "same content twice": {"autosaves/a.md": NEW, "autosaves/b.md": NEW, "projects/c.md": NEW},
}


async def test_odd_files_of_every_kind(side: Side) -> None:
    side.max_bytes = 10_000
    await side.build()
    for kind, files in ODD.items():
        commit(side.repository, {_below(kind, path): content for path, content in files.items()})  # type: ignore[misc]
    assert (await side.sync()).outcome is Outcome.APPLIED
    await side.check()
    assert (await side.sync()).outcome is Outcome.UNCHANGED
    unreadable = {path for path, item in (await rows_of(side.cache)).items() if item.unreadable}
    assert unreadable == {
        f"autosaves/{kind}/a.md" for kind in ("not UTF-8", "binary", "NUL", "too large", "UTF-16")
    }


def _below(kind: str, path: str | bytes) -> str | bytes:
    """Each kind in a directory of its own, so that a difference tells which one it is."""
    if isinstance(path, bytes):
        return path.replace(b"autosaves/", f"autosaves/{kind}/".encode())
    return path.replace("autosaves/", f"autosaves/{kind}/")


async def test_a_path_too_long_for_an_index_is_passed_over(side: Side) -> None:
    await side.build()
    rows = await rows_of(side.cache)
    deep = "autosaves/" + "/".join(["д" * 100] * 6)
    commit(side.repository, {f"{deep}/a.md": NEW})
    assert (await side.sync()).outcome is Outcome.APPLIED
    assert await rows_of(side.cache) == rows


@pytest.mark.parametrize(
    "layout",
    [
        Layout(sessions=("",), projects=("autosaves/projects",), priorities=("p",)),
        Layout(sessions=("autosaves/2026/11",), projects=("autosaves",), priorities=("p",)),
        Layout(sessions=("autosaves/2026",), projects=("x/y/z",), priorities=("autosaves/pr",)),
    ],
    ids=["the root", "nested", "absent"],
)
async def test_layouts(side: Side, layout: Layout) -> None:
    side.layout = layout
    await side.build()
    await side.check()
    commit(side.repository, {"x/y/z/a.md": NEW, "top.md": NEW, DRILL: None})
    await side.sync()
    await side.check()


async def test_a_repository_without_files(side: Side) -> None:
    empty = commit(side.repository, {}, parent=None)
    await side.build()
    await side.check(empty)
    commit(side.repository, {"autosaves/a.md": NEW})
    await side.sync()
    await side.check()
    commit(side.repository, {"autosaves/a.md": None})
    await side.sync()
    await side.check()


# History


async def test_a_rewritten_history_is_just_another_tree(side: Side) -> None:
    await side.build()
    old = head_of(side.repository)
    commit(side.repository, {DRILL: b"# Another past\n"}, parent=None)
    report = await side.sync()
    assert (report.outcome, report.removed) == (Outcome.APPLIED, 9)
    await side.check()
    async with side.cache.snapshot() as snapshot:
        assert await snapshot.applied_at(old) is None


async def test_a_lagging_replica_does_not_take_the_cache_back(side: Side) -> None:
    old = head_of(side.repository)
    await side.build()
    new = commit(side.repository, {DRILL: NEW})
    await side.build()
    side.github.faults.add(Fault(kind="lagging_head", head=old, operation_name="Head"))
    assert (await side.sync()).outcome is Outcome.LAGGING
    await side.check(new)
    assert (await side.sync()).outcome is Outcome.UNCHANGED


async def test_nor_does_one_that_names_a_commit_that_the_cache_jumped_over(side: Side) -> None:
    await side.build()
    middle = commit(side.repository, {DRILL: NEW})
    new = commit(side.repository, {SEEDS: NEW})
    await side.build()
    side.github.faults.add(Fault(kind="lagging_head", head=middle, operation_name="Head"))
    assert (await side.sync()).outcome is Outcome.LAGGING
    await side.check(new)


@pytest.mark.usefixtures("no_lag", "no_pauses")
@pytest.mark.parametrize("is_known", [True, False])
async def test_a_branch_that_was_set_back_is_believed_after_a_while(
    side: Side, clone: Clone, *, is_known: bool
) -> None:
    old = head_of(side.repository)
    if is_known:
        await side.build()
    new = clone.push({DRILL: NEW})
    await side.build()
    clone.reset(old)
    assert (await side.sync()).outcome is Outcome.APPLIED
    await side.check(old)
    async with side.cache.snapshot() as snapshot:
        assert await snapshot.applied_at(new) is None


@pytest.mark.usefixtures("no_lag", "no_pauses")
async def test_every_commit_of_the_real_history(corpus: Path, tmp_path: Path, side: Side) -> None:
    """One by one, then in jumps in either direction."""
    repository = tmp_path / "corpus.git"
    create_repository(repository, corpus)
    commits = git(repository, "rev-list", "--reverse", "--first-parent", "main").decode().split()
    chance = random.Random(95)
    jumps = [*chance.sample(commits, 8), commits[-1]]
    layout = Layout(
        sessions=("",), projects=("autosaves/projects", "projects"), priorities=("priorities",)
    )
    async with (
        GitHub(repository, limits=Limits.off()) as github,
        Client(github.url, FixedToken(github.token), timeout=10) as client,
    ):
        real = replace(side, github=github, client=client, layout=layout)
        for oid in [*commits, *jumps]:
            git(repository, "update-ref", "refs/heads/main", oid)
            assert (await real.sync()).outcome in {Outcome.APPLIED, Outcome.UNCHANGED}
            await real.check(oid)


# Others at work


async def test_a_view_is_of_one_commit_even_while_others_push(side: Side) -> None:
    pause = side.github.faults.add(Fault(kind="latency", ms=300, operation_name="Trees"))
    first = head_of(side.repository)
    syncing = asyncio.create_task(side.sync())
    await pause.wait_until_struck()
    second = commit(side.repository, {DRILL: NEW, SEEDS: None, "autosaves/new.md": NEW})
    assert (await syncing).commit == first
    await side.check(first)
    await side.sync()
    await side.check(second)


async def test_reconciles_take_turns(side: Side) -> None:
    await side.build()
    commit(side.repository, {DRILL: NEW})
    pause = side.github.faults.add(Fault(kind="latency", ms=500, operation_name="Blobs"))
    first = asyncio.create_task(side.reconciler.run())
    await pause.wait_until_struck()
    newest = commit(side.repository, {SEEDS: NEW})
    second = await side.reconciler.run()
    assert first.done()
    assert [(await first).changed, second.changed] == [1, 1]
    await side.check(newest)


async def test_who_gets_no_turn_in_time_does_nothing(side: Side) -> None:
    await side.build()
    before = head_of(side.repository)
    commit(side.repository, {DRILL: NEW})
    async with Database(side.url, timeout=2) as database:
        other = replace(side, cache=Cache(database, "ours"))
        async with side.cache.turn_to_reconcile() as turn:
            assert turn is not None
            assert (await other.sync()).outcome is Outcome.BUSY
            head = await side.master.head()
            assert not await other.reconciler.repair(head, {DRILL: None})
        await side.check(before)
        assert (await other.sync()).outcome is Outcome.APPLIED


async def test_who_was_overtaken_by_a_commit_of_our_own_does_nothing(side: Side) -> None:
    """A late worker must not move the cache back. The gateway's own commits wait for nobody."""
    await side.build()
    before = head_of(side.repository)
    commit(side.repository, {DRILL: NEW})
    pause = side.github.faults.add(Fault(kind="latency", ms=500, operation_name="Blobs"))
    late = asyncio.create_task(side.reconciler.run())
    await pause.wait_until_struck()
    ours = CachedHead("a" * 40, datetime.now(UTC))
    change = IndexChange(head=ours, directories={"": "b" * 40})
    assert await side.cache.apply(change, expected=before)
    assert (await late).outcome is Outcome.SUPERSEDED
    async with side.cache.snapshot() as snapshot:
        assert snapshot.head is not None
        assert snapshot.head.commit == ours.commit


async def test_many_at_once_do_it_once(side: Side) -> None:
    reports = await asyncio.gather(*(side.reconciler.run() for _ in range(5)))
    outcomes = [report.outcome for report in reports]
    assert outcomes.count(Outcome.APPLIED) == 1
    assert set(outcomes) <= {Outcome.APPLIED, Outcome.SUPERSEDED, Outcome.UNCHANGED}
    await side.check()


# Failures


@pytest.mark.parametrize(
    ("kind", "operation"),
    [
        ("bad_gateway", "Head"),
        ("bad_gateway", "Compare"),
        ("dropped", "Trees"),
        ("dropped", "Blobs"),
        ("rate_limit", "Blobs"),
        ("bad_credentials", "Trees"),
    ],
)
async def test_a_master_that_fails_leaves_the_cache_as_it_was(
    side: Side, operation: str, kind: str
) -> None:
    await side.build()
    before = head_of(side.repository)
    commit(side.repository, {DRILL: NEW, SEEDS: None})
    fault = side.github.faults.add(
        Fault.model_validate({"kind": kind, "operation_name": operation, "count": None})
    )
    with pytest.raises(MasterError):
        await side.sync()
    await side.check(before)
    side.github.faults.clear(fault)
    await side.build()
    await side.check()


@pytest.mark.parametrize("kind", ["repository_missing", "bad_credentials"])
async def test_a_master_that_hides_wipes_nothing(side: Side, kind: str) -> None:
    """No repository is another thing than an empty one."""
    await side.build()
    before = head_of(side.repository)
    fault = side.github.faults.add(Fault.model_validate({"kind": kind, "count": None}))
    with pytest.raises((Missing, AccessRefused)):
        await side.sync()
    side.github.faults.clear(fault)
    await side.check(before)


@pytest.mark.usefixtures("no_lag", "no_pauses")
async def test_a_branch_that_is_gone_wipes_nothing_and_one_made_again_is_followed(
    side: Side,
) -> None:
    await side.build()
    before = head_of(side.repository)
    git(side.repository, "update-ref", "-d", "refs/heads/main")
    with pytest.raises(Missing, match="does not exist"):
        await side.sync()
    await side.check(before)
    commit(side.repository, {"autosaves/anew.md": NEW}, parent=None)
    assert (await side.sync()).outcome is Outcome.APPLIED
    await side.check()


async def test_content_that_is_not_what_its_hash_says_is_not_taken(side: Side) -> None:
    await side.build()
    before = head_of(side.repository)
    commit(side.repository, {DRILL: NEW})
    fault = side.github.faults.add(Fault(kind="corrupted_blob", count=None))
    with pytest.raises(MasterError):
        await side.sync()
    await side.check(before)
    side.github.faults.clear(fault)
    await side.build()
    await side.check()


@pytest.fixture
async def mortal_side(tmp_path: Path, github: GitHub) -> AsyncIterator[tuple[Side, Postgres]]:
    """With a PostgreSQL that may be killed."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            Postgres(tmp_path / "postgres", settings=UNSAFE_BUT_QUICK)
        )
        await migrate(server.url)
        database = await stack.enter_async_context(Database(server.url, timeout=3))
        client = await stack.enter_async_context(
            Client(github.url, FixedToken(github.token), timeout=10)
        )
        yield Side(github, Cache(database, "ours"), client, server.url), server


async def test_a_cache_that_fails_in_the_middle_is_as_it_was(
    mortal_side: tuple[Side, Postgres],
) -> None:
    side, server = mortal_side
    await side.build()
    before = head_of(side.repository)
    commit(side.repository, {DRILL: NEW, SEEDS: None})
    pause = side.github.faults.add(Fault(kind="latency", ms=300, operation_name="Blobs"))
    syncing = asyncio.create_task(side.sync())
    await pause.wait_until_struck()
    await server.kill()
    with pytest.raises(CacheUnavailable):
        await syncing

    await server.start()
    await until(lambda: not side.cache.database.is_down)
    await side.check(before)
    await side.build()
    await side.check()


async def test_what_another_origin_left_is_replaced_whole(side: Side) -> None:
    await side.build()
    other = replace(
        side,
        cache=Cache(side.cache.database, "other"),
        layout=Layout(
            sessions=("autosaves/2026",), projects=("autosaves/projects",), priorities=("p",)
        ),
    )
    await other.build()
    await other.check()
    collections = {item.collection for item in (await rows_of(side.cache)).values()}
    assert collections == {Collection.SESSIONS, Collection.PROJECTS}


async def test_a_directory_that_the_cache_forgot_is_walked_again(side: Side) -> None:
    """As after a commit of the gateway's own, whose answer did not name it."""
    await side.build()
    head = await side.master.head()
    assert await side.reconciler.repair(head, {}, {"autosaves/2026": None})
    commit(side.repository, {GARDEN: NEW})
    await side.sync()
    await side.check()
