"""The index is proven once, and again where somebody touched it: no list is ever wrong for that."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.engine import RowMapping

from api.cache.cache import Cache
from api.cache.rows import Entry, read_entry
from api.documents import PARSER_VERSION, Collection
from api.documents.listing import Indexed, Listing, Page, Where, Window, matches, page_of
from api.gateway.provenance import Verification
from api.gateway.views import MasterView, VerifiedView
from api.master.errors import MasterError
from api.sync.drift import Drift
from api.sync.proven import Proof, ProvenIndex
from api.sync.reconcile import Reconciler
from sandbox.github import Fault
from tests.cache.test_lists import ORDERS, pages_asked
from tests.cache.waiting import until
from tests.sync.conftest import LAYOUT, Side
from tests.sync.oracle import EXECUTABLE, commit, documents_at, head_of
from tests.sync.test_health import DAMAGE, DRILL, GARDEN, HOSTILE, UPDATE, damage

ELEVEN = "autosaves/2026/11"
OF_A_BODY = {
    **{
        kind: statement
        for kind, (statement, drift) in DAMAGE.items()
        if set(drift.values()) & {Drift.CORRUPT_BODY, Drift.MISSING_BODY, Drift.UNEXPECTED_BODY}
    },
    "a body kept for ever": UPDATE.format(HOSTILE["a body kept for ever"]),
}
OF_THE_INDEX = {
    **{kind: statement for kind, (statement, _) in DAMAGE.items() if kind not in OF_A_BODY},
    **{kind: UPDATE.format(c) for kind, c in HOSTILE.items() if kind not in OF_A_BODY},
}


@dataclass
class Reader:
    """A gateway process that reads lists. Its memory of what was proven lasts."""

    side: Side
    reconciler: Reconciler
    index: ProvenIndex
    judged: list[Entry] = field(default_factory=list)  # rows that were read to be judged

    async def prove(self) -> Proof:
        proof = await self.index.prove(await self.reconciler.master.head())
        assert proof is not None
        return proof

    async def master(self) -> MasterView:
        return MasterView(await self.reconciler.master.head(), self.reconciler, self.index)

    async def verified(self) -> VerifiedView:
        return VerifiedView(await self.reconciler.master.head(), self.reconciler, self.index)


@pytest.fixture
def reader(side: Side, monkeypatch: pytest.MonkeyPatch) -> Reader:
    return reader_of(side, monkeypatch)


def reader_of(side: Side, monkeypatch: pytest.MonkeyPatch) -> Reader:
    reconciler = side.reconciler
    reader = Reader(side, reconciler, ProvenIndex(reconciler, asyncio.create_task))

    def read(row: RowMapping) -> Entry:
        reader.judged.append(read_entry(row))
        return reader.judged[-1]

    monkeypatch.setattr("api.cache.snapshot.read_entry", read)
    return reader


def everything(collection: Collection) -> Iterator[Listing]:
    for order in ORDERS[collection]:
        yield Listing(collection=collection, where=Where(), order=order)


LISTINGS = [
    *(listing for collection in Collection for listing in everything(collection)),
    *(
        replace(next(everything(Collection.SESSIONS)), where=where)
        for where in (
            Where(status="done"),
            Where(tag="garden"),
            Where(title_contains="о"),
            Where(project_keys=frozenset({"reading room", "reading-room", "kitchen-garden"})),
        )
    ),
]
ASKED = [(listing, Window(size=3)) for listing in LISTINGS]


def told(pages: Sequence[Page]) -> list[Page]:
    """Pages without what says where a body is."""
    return [
        replace(
            page, items=[replace(i, hot=False, markdown=None, unreadable=None) for i in page.items]
        )
        for page in pages
    ]


def true_pages(side: Side, asked: Sequence[tuple[Listing, Window]] = ASKED) -> list[Page]:
    """What git says, one document at a time."""
    index = true_index(side)
    return told(
        [
            page_of(listing, window, [i for i in index if i.collection is listing.collection])
            for listing, window in asked
        ]
    )


def true_counts(side: Side, listings: Sequence[Listing] = LISTINGS) -> list[int]:
    return [
        sum(
            item.collection is listing.collection and matches(listing.where, item.document)
            for item in true_index(side)
        )
        for listing in listings
    ]


def true_index(side: Side) -> Sequence[Indexed]:
    return _index_at(side.repository, head_of(side.repository))


@lru_cache(4)
def _index_at(repository: Path, oid: str) -> Sequence[Indexed]:
    return list(documents_at(repository, oid, LAYOUT).values())


async def assert_lists_are_true(reader: Reader) -> None:
    """Of all collections, at the level MASTER."""
    view = await reader.master()
    assert told(await view.pages(ASKED)) == true_pages(reader.side)
    assert await view.counts(LISTINGS) == true_counts(reader.side)
    projects = [i for i in true_index(reader.side) if i.collection is Collection.PROJECTS]
    assert [i.document for i in await view.projects()] == sorted(
        (i.document for i in projects), key=lambda document: document.path
    )


# What is proven


async def test_a_clean_index_is_proven_by_the_root_alone(side: Side, reader: Reader) -> None:
    await side.build()
    side.github.requests.clear()
    assert (await reader.prove()).differences == {}
    assert side.asked == ["Head"]
    assert len(reader.judged) == 10


async def test_what_is_proven_is_not_read_again(side: Side, reader: Reader) -> None:
    await side.build()
    await reader.prove()
    reader.judged.clear()
    side.github.requests.clear()
    for level in (reader.master, reader.verified):
        view = await level()
        before = side.cache.database.statements
        assert told(await view.pages(ASKED)) == true_pages(side)
        assert side.cache.database.statements - before == len(Collection)
        assert await view.counts(LISTINGS) == true_counts(side)
        assert side.cache.database.statements - before == len(Collection) + 1
    assert side.asked == ["Head", "Head"]
    assert reader.judged == []


async def test_whatever_is_done_to_a_row_master_answers_rightly_and_verified_repairs(
    side: Side, reader: Reader
) -> None:
    await side.build()
    await reader.prove()
    for kind, statement in OF_THE_INDEX.items():
        await damage(side, statement)

        await assert_lists_are_true(reader)
        assert (await reader.prove()).differences != {}, kind  # MASTER repairs nothing
        view = await reader.verified()
        assert told(await view.pages(ASKED)) == true_pages(side), kind
        assert view.provenance.verification is Verification.REPAIRED, kind
        assert (await reader.prove()).differences == {}, kind
        again = await reader.verified()
        assert told(await again.pages(ASKED)) == true_pages(side), kind
        assert again.provenance.verification is Verification.MATCHED, kind
    await side.check()


async def test_a_damaged_body_makes_no_list_wrong_and_is_found_by_who_returns_it(
    side: Side, reader: Reader
) -> None:
    await side.build()
    proof = await reader.prove()
    for kind, statement in OF_A_BODY.items():
        await damage(side, statement)
        await proof.index.check()
        await assert_lists_are_true(reader)
        view = await reader.verified()
        assert told(await view.pages(ASKED)) == true_pages(side), kind
        # What is not there is read from GitHub by who asks for it.
        corrupt = kind in {"an empty body", "a body with one character changed"}
        assert (view.provenance.verification is Verification.REPAIRED) is corrupt, kind
        proof = await reader.prove()


async def test_damage_in_one_collection_is_nothing_to_the_lists_of_another(
    side: Side, reader: Reader
) -> None:
    await side.build()
    await damage(side, "UPDATE projects SET title = 'Other'")
    [sessions, *_] = ASKED
    view = await reader.verified()
    assert told(await view.pages([sessions])) == true_pages(side, [sessions])
    assert view.provenance.verification is Verification.MATCHED


async def test_only_what_was_touched_is_judged_again(side: Side, reader: Reader) -> None:
    await side.build()
    await reader.prove()
    reader.judged.clear()
    side.github.requests.clear()
    commit(side.repository, {f"{ELEVEN}/new.md": b"# New\n", "autosaves/2027/01/x.md": b"# X\n"})
    await side.reconciler.run()
    side.github.requests.clear()
    await assert_lists_are_true(reader)
    assert {entry.directory for entry in reader.judged} == {ELEVEN, "autosaves/2027/01"}
    assert side.asked == ["Head"]


async def test_rows_of_a_directory_that_has_others_below_are_not_judged_when_those_change(
    side: Side, reader: Reader
) -> None:
    commit(side.repository, {f"autosaves/{i}.md": b"# %d\n" % i for i in range(5)})
    await side.build()
    await reader.prove()
    reader.judged.clear()
    commit(side.repository, {DRILL: b"# New\n"})
    await side.reconciler.run()
    await assert_lists_are_true(reader)
    assert {entry.directory for entry in reader.judged} == {ELEVEN}


async def test_a_cache_that_is_behind_is_put_right_in_the_answer(
    side: Side, reader: Reader
) -> None:
    await side.build()
    commit(
        side.repository,
        {
            DRILL: None,
            GARDEN: b"---\nrank: 1\n---\n# Garden\n",
            "autosaves/2026/12/y.md": b"---\ndate: 2026-12-01\nstatus: done\n---\n# Y\n",
            "autosaves/mode.md": (EXECUTABLE, b"# Mode\n"),
            "autosaves/broken.md": b"\xff",
        },
    )
    await assert_lists_are_true(reader)
    assert len((await reader.prove()).differences) == 5
    side.github.requests.clear()
    await assert_lists_are_true(reader)
    assert side.asked == ["Head"]
    async with side.cache.snapshot() as snapshot:
        assert snapshot.head
        assert snapshot.head.commit != head_of(side.repository)


async def test_a_cache_that_is_ahead_answers_for_an_older_commit(
    side: Side, reader: Reader
) -> None:
    await side.build()
    old = await reader.master()
    expected, counts = true_pages(side), true_counts(side)
    commit(side.repository, {DRILL: None, "autosaves/new.md": b"# New\n"})
    await side.reconciler.run()
    await assert_lists_are_true(reader)
    assert told(await old.pages(ASKED)) == expected
    assert await old.counts(LISTINGS) == counts


async def test_commits_elsewhere_make_no_difference(side: Side, reader: Reader) -> None:
    await side.build()
    await reader.prove()
    reader.judged.clear()
    commit(side.repository, {"README.md": b"Read me.\n", f"{ELEVEN}/picture.png": b"\0"})
    assert (await reader.prove()).differences == {}
    await side.reconciler.run()
    assert (await reader.prove()).differences == {}
    view = await reader.verified()
    assert told(await view.pages(ASKED)) == true_pages(side)
    assert view.provenance.verification is Verification.MATCHED
    assert reader.judged == []


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM directories",
        "DELETE FROM directories WHERE path = 'autosaves/2026'",
        "UPDATE directories SET others = 'x'",
        "UPDATE directories SET tree = :zeros",
        "INSERT INTO directories VALUES ('autosaves/x', :zeros, 'y'), ('y/z', '', '')",
    ],
)
async def test_what_is_noted_of_directories_is_not_trusted(
    side: Side, reader: Reader, statement: str
) -> None:
    await side.build()
    await damage(side, statement)
    assert (await reader.prove()).differences == {}
    await assert_lists_are_true(reader)
    await damage(side, UPDATE.format("title = 'Other'"))
    assert (await reader.prove()).differences.keys() == {DRILL}
    await assert_lists_are_true(reader)


async def test_a_directory_that_is_gone_at_the_master_leaves_no_row_in_a_list(
    side: Side, reader: Reader
) -> None:
    await side.build()
    await reader.prove()
    gone = [path for path in documents_at(side.repository, "main", LAYOUT) if "2026/10" in path]
    commit(side.repository, dict.fromkeys(gone))
    await assert_lists_are_true(reader)
    await side.reconciler.run()
    await assert_lists_are_true(reader)
    assert (await reader.prove()).differences == {}


async def test_bodies_that_an_older_parser_read_are_read_again(
    side: Side, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = replace(side, cache=Cache(side.cache.database, "ours", parser=PARSER_VERSION - 1))
    await older.build()
    assert (await reader.prove()).differences.keys() == {
        item.document.path for item in true_index(side)
    }
    view = await reader.verified()
    assert told(await view.pages(ASKED)) == true_pages(side)
    assert view.provenance.verification is Verification.REPAIRED
    # What is cold waits for the health check: all levels answer with it until then.
    await damage(older, "UPDATE sessions SET markdown = NULL, hot = false")
    assert (await reader_of(older, monkeypatch).prove()).differences == {}


# When it cannot be proven


async def test_a_cache_of_another_origin_proves_nothing(side: Side, reader: Reader) -> None:
    await side.build()
    await reader.prove()
    await damage(side, "UPDATE head SET origin = 'theirs'")
    assert await reader.index.prove(await reader.reconciler.master.head()) is None
    await assert_lists_are_true(reader)
    await damage(side, "UPDATE head SET origin = 'ours'")
    assert (await reader.prove()).differences == {}


async def test_without_triggers_every_row_is_looked_at_every_time(
    side: Side, reader: Reader
) -> None:
    await side.build()
    await reader.prove()
    async with side.cache.database.transaction() as connection:
        await connection.run(text("ALTER TABLE sessions DISABLE TRIGGER ALL"))
    for statement in (
        "DELETE FROM sessions WHERE path = :drill",
        "UPDATE sessions SET revision = :zeros WHERE path = :why",
    ):
        await damage(side, statement)
        await assert_lists_are_true(reader)
        view = await reader.verified()
        assert told(await view.pages(ASKED)) == true_pages(side)
        assert view.provenance.verification is Verification.REPAIRED


async def test_while_others_write_a_list_is_still_that_of_its_commit(
    side: Side, reader: Reader
) -> None:
    await side.build()
    view, expected, counts = await reader.master(), true_pages(side), true_counts(side)

    async def write() -> None:
        for i in range(8):
            commit(side.repository, {f"autosaves/{i % 3}/{i}.md": b"# %d\n" % i, DRILL: b"%d" % i})
            await side.reconciler.run()

    writing = asyncio.create_task(write())
    while not writing.done():
        assert told(await view.pages(ASKED)) == expected
        assert await view.counts(LISTINGS) == counts
        await asyncio.sleep(0)
    await writing
    await assert_lists_are_true(reader)


# Many readers


async def test_who_ask_together_have_the_rows_judged_once(side: Side, reader: Reader) -> None:
    await side.build()
    views = [await reader.master() for _ in range(20)]
    pages = await asyncio.gather(*(view.pages(ASKED) for view in views))
    assert all(told(page) == true_pages(side) for page in pages)
    assert len(reader.judged) == 10


async def test_who_hangs_up_takes_the_proof_from_nobody(side: Side, reader: Reader) -> None:
    await side.build()
    first = asyncio.create_task(reader.prove())
    await until(lambda: bool(reader.judged))
    second = asyncio.create_task(reader.prove())
    first.cancel()
    assert (await second).differences == {}
    assert len(reader.judged) == 10


async def test_who_ask_together_of_a_cache_that_is_behind_ask_github_once(
    side: Side, reader: Reader
) -> None:
    await side.build()
    commit(side.repository, {DRILL: b"# New\n"})
    views = [await reader.master() for _ in range(5)]
    side.github.requests.clear()
    await asyncio.gather(*(view.counts(LISTINGS) for view in views))
    assert side.asked.count("Trees") == 4  # levels, once


async def test_when_github_fails_in_the_comparison_the_next_reader_compares(
    side: Side, reader: Reader
) -> None:
    await side.build()
    commit(side.repository, {DRILL: b"# New\n"})
    view = await reader.master()
    side.github.faults.add(Fault(kind="something_wrong", operation_name="Trees"))
    with pytest.raises(MasterError):
        await view.pages(ASKED)
    side.github.faults.clear()
    await assert_lists_are_true(reader)


# The same as one document at a time

several = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
async def varied(side: Side) -> Side:
    """Sixty sessions that differ in all that lists ask for."""
    files: dict[str | bytes, bytes | tuple[str, bytes] | None] = {}
    for i in range(60):
        header = [
            f"title: {['100% sure', 'Отчёт', 'a_b', 'Straße'][i % 4]}",
            *([f"date: 2026-{1 + i % 3:02}-0{1 + i % 4}"] if i % 5 else []),
            *([f"status: {['done', 'Done', 'в работе'][i % 3]}"] if i % 2 else []),
            *([f"project: {['Annoris', 'сад', 'projects/annoris.md'][i % 3]}"] if i % 3 else []),
            *([f"tags: [{['done', '%'][i % 2]}]"] if i % 4 else []),
        ]
        files[f"autosaves/{i % 7}/{i:02}.md"] = "\n".join(["---", *header, "---", "x"]).encode()
    commit(side.repository, files)
    await side.build()
    return side


@pytest.mark.parametrize("state", ["clean", "behind", "damaged"])
async def test_pages_and_counts_are_those_of_a_walk(
    varied: Side, reader: Reader, state: str
) -> None:
    if state == "behind":
        gone: Mapping[str | bytes, None] = {f"autosaves/{i % 7}/{i:02}.md": None for i in range(9)}
        dated = b"---\ndate: 2026-02-02\n---\n"
        commit(varied.repository, {**gone, **{f"autosaves/8/{i}.md": dated for i in range(7)}})
    if state == "damaged":
        for statement in (
            "UPDATE sessions SET title = '%' WHERE bytes % 7 = 0 OR path = :why",
            "UPDATE sessions SET occurred_key = now() WHERE bytes % 7 = 1 OR path = :why",
            "UPDATE sessions SET status = 'done' WHERE bytes % 7 = 2 OR path = :why",
            "DELETE FROM sessions WHERE bytes % 7 = 3 OR path = :sync",
        ):
            await damage(varied, statement)
    view = await reader.master()
    index = [i for i in true_index(varied) if i.collection is Collection.SESSIONS]

    @several
    @given(st.lists(pages_asked(index), min_size=1, max_size=4))
    def examples(asked: list[tuple[Listing, Window]]) -> None:
        drawn.append(asked)

    drawn: list[list[tuple[Listing, Window]]] = []
    examples()
    for asked in drawn:
        assert told(await view.pages(asked)) == told(
            [page_of(listing, window, index) for listing, window in asked]
        )
        listings = [listing for listing, _ in asked]
        assert await view.counts(listings) == [
            sum(matches(listing.where, item.document) for item in index) for listing in listings
        ]
