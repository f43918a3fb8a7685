"""Lists in SQL mean what `page_of` and `matches` say, and never read a whole table."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from api.cache.cache import Cache
from api.cache.changing import IndexChange
from api.cache.database import Database
from api.cache.rows import WITH_BODIES
from api.cache.snapshot import CachedHead, Glance, Questions, Row, Snapshot
from api.cache.statements import Statement, Values
from api.documents import Collection, Session, blob_oid, project_key
from api.documents.listing import (
    Indexed,
    Key,
    Listing,
    Order,
    Position,
    Where,
    Window,
    cursor,
    matches,
    page_of,
    position,
    read_cursor,
)
from tests.cache.documents import MOMENTS, PATHS, PROJECTS, TITLES, WORDS, indexes, rebuild

SESSIONS, PROJECTS_, PRIORITIES = Collection
ORDERS = {
    SESSIONS: (Order.OCCURRED_AT_DESC, Order.OCCURRED_AT_ASC, Order.PATH_ASC),
    PROJECTS_: (Order.RANK_ASC, Order.PATH_ASC),
    PRIORITIES: (Order.RANK_ASC, Order.PATH_ASC),
}
KEYS: dict[str, st.SearchStrategy[Key]] = {
    "occurred": st.sampled_from(MOMENTS) | st.datetimes(timezones=st.just(UTC)),
    "rank": st.integers(-(2**63) + 1, 2**63 - 1),
    "path": st.just(""),
}
POISON = ("\0", "\ud800", "%", "_", "\\", "/", "'", "")
ours = settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def words(values: Sequence[str]) -> st.SearchStrategy[str | None]:
    return st.none() | st.sampled_from([*values, *POISON])


wheres = st.builds(
    Where,
    project_keys=st.none()
    | st.frozensets(st.sampled_from([*map(project_key, PROJECTS), *POISON]), max_size=3),
    status=words(WORDS),
    priority=words(WORDS),
    agent=words(WORDS),
    tag=words(WORDS),
    since=st.none() | st.sampled_from(MOMENTS),
    until=st.none() | st.sampled_from(MOMENTS),
    title_contains=words([*TITLES, "0%", "A_B", "ss", "ß", "чёт"]),
)
# One condition at a time, or none: a conjunction of many would match nothing.
single_wheres = st.builds(
    lambda where, name: Where(**{name: getattr(where, name)}),
    wheres,
    st.sampled_from([*Where.__dataclass_fields__]),
)


@st.composite
def positions(draw: st.DrawFn, order: Order, items: Sequence[Indexed]) -> Position:
    """The place of a document, or one where nothing is."""
    places = [position(order, item.document) for item in items]
    elsewhere = st.tuples(KEYS[order.key], st.sampled_from([*PATHS, "", "zz"]))
    return draw(st.sampled_from(places) | elsewhere if places else elsewhere)


@st.composite
def pages_asked(draw: st.DrawFn, items: Sequence[Indexed]) -> tuple[Listing, Window]:
    collection = items[0].collection if items else SESSIONS
    order = draw(st.sampled_from(ORDERS[collection]))
    window = Window(
        size=draw(st.integers(0, 6)),
        after=draw(st.none() | positions(order, items)),
        before=draw(st.none() | positions(order, items)),
        from_end=draw(st.booleans()),
    )
    where = draw(st.just(Where()) | single_wheres | wheres)
    return Listing(collection=collection, where=where, order=order), window


class Both(Questions):
    """Asks in a transaction and at a glance; the answers must be the same."""

    def __init__(self, snapshot: Snapshot, glance: Glance) -> None:
        super().__init__(snapshot.head)
        self._snapshot, self._glance = snapshot, glance

    async def _ask(self, statement: Statement, values: Values) -> Sequence[Row]:
        in_transaction = await self._snapshot._ask(statement, values)
        at_a_glance = await self._glance._ask(statement, values)
        told = [{name: row[name] for name in row} for row in in_transaction]
        assert [{name: row[name] for name in told[0]} for row in at_a_glance] == told
        return in_transaction


@asynccontextmanager
async def both(cache: Cache) -> AsyncIterator[Both]:
    known = await cache.look(anew=True)
    assert known
    async with cache.snapshot() as snapshot:
        yield Both(snapshot, Glance(cache.database, known))


async def fill(cache: Cache, items: Sequence[Indexed]) -> None:
    async with cache.snapshot() as snapshot:
        expected = snapshot.head.commit if snapshot.head else None
    assert await cache.apply(rebuild(items), expected=expected)


@ours
@given(data=st.data(), collection=st.sampled_from(Collection))
async def test_pages_and_counts_are_those_of_the_same_documents_in_memory(
    cache: Cache, data: st.DataObject, collection: Collection
) -> None:
    items = data.draw(indexes(collection))
    await fill(cache, items)
    asked = data.draw(st.lists(pages_asked(items), min_size=1, max_size=12))
    async with both(cache) as questions:
        pages = await questions.pages(asked)
        counts = await questions.counts([listing for listing, _ in asked])
    assert pages == [page_of(listing, window, items) for listing, window in asked]
    assert counts == [
        sum(matches(listing.where, item.document) for item in items) for listing, _ in asked
    ]


@ours
@given(data=st.data(), collection=st.sampled_from(Collection), size=st.integers(1, 5))
async def test_paging_either_way_meets_every_document_once(
    cache: Cache, data: st.DataObject, collection: Collection, size: int
) -> None:
    items = data.draw(indexes(collection))
    await fill(cache, items)
    order = data.draw(st.sampled_from(ORDERS[collection]))
    listing = Listing(collection=collection, where=Where(), order=order)
    whole = page_of(listing, Window(size=len(PATHS)), items).items
    async with both(cache) as questions:
        assert await walk(questions, listing, size) == list(whole)
        assert await walk(questions, listing, size, backwards=True) == list(whole)


async def walk(
    snapshot: Questions, listing: Listing, size: int, *, backwards: bool = False
) -> list[Indexed]:
    """All pages one after the other, by the cursors that a client would send back."""
    found: list[Indexed] = []
    window = Window(size=size, from_end=backwards)
    for _ in range(len(PATHS) + 1):
        [page] = await snapshot.pages([(listing, window)])
        found = [*page.items, *found] if backwards else [*found, *page.items]
        if not (page.has_previous if backwards else page.has_next):
            return found
        edge = page.items[0 if backwards else -1].document
        place = read_cursor(listing.order, cursor(listing.order, edge))
        window = replace(window, before=place) if backwards else replace(window, after=place)
    raise AssertionError("the pages have no end")


@ours
@example(["\ud800", "a\0.md"])
@given(st.lists(st.text() | st.sampled_from(PATHS), max_size=5))
async def test_what_no_document_can_be_called_is_not_found(cache: Cache, names: list[str]) -> None:
    await fill(cache, [])
    async with both(cache) as questions:
        assert await questions.documents(names) == {}
        assert await questions.bodies(names) == {}
    async with cache.snapshot() as snapshot:
        assert await snapshot.files(names) == {}
    assert not cache.database.is_down


async def test_more_names_than_a_statement_has_parameters(cache: Cache) -> None:
    """PostgreSQL takes 32,767 of them; a first build and a moved directory have more names."""
    await fill(cache, [])
    names = [f"{i:040}" for i in range(40_000)]
    async with both(cache) as questions:
        assert await questions.documents(names) == {}
        assert await questions.bodies(names) == {}
    async with cache.snapshot() as snapshot:
        assert await snapshot.files(names) == {}
    change = IndexChange(
        head=CachedHead("d" * 40, datetime.now(UTC)),
        directories=dict.fromkeys(names),
        removals=names,
    )
    assert await cache.apply(change, expected="c" * 40)


# Plans

COUNT = 5_000
START = datetime(2020, 1, 1, tzinfo=UTC)


def many() -> list[Indexed]:
    return [
        Indexed(
            collection=SESSIONS,
            document=Session(
                path=f"autosaves/{i % 50:02}/{i:05}.md",
                revision=blob_oid(b"%d" % i),
                bytes=100,
                title=f"Отчёт {i} о том, что было",
                occurred_at=START + timedelta(hours=i) if i % 7 else None,
                status=f"status {i % 40}",
                project=f"project {i % 60}",
                priority=f"priority {i % 30}",
                agent=f"agent {i % 45}",
                tags=(f"tag {i % 50}", f"tag {i % 77}"),
            ),
            hot=i % 10 == 0,
            markdown=f"# {i}\n" * 20 if i % 10 == 0 else None,
        )
        for i in range(COUNT)
    ]


@pytest.fixture
async def full_cache(database_url: str) -> AsyncIterator[Cache]:
    """5,000 sessions, after PostgreSQL has looked at them as its autovacuum does."""
    async with Database(database_url, timeout=10) as database:
        cache = Cache(database, "ours")
        assert await cache.apply(rebuild(many()), expected=None)
        connection = await asyncpg.connect(database_url)
        await connection.execute("VACUUM ANALYZE")
        await connection.close()
        yield cache


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@contextmanager
def recorded(database: Database) -> Iterator[list[tuple[str, Sequence[object]]]]:
    """The statements that are sent, with their parameters."""
    statements: list[tuple[str, Sequence[object]]] = []
    fetch = database.fetch

    async def record_and_fetch(sql: str, values: Sequence[object]) -> Sequence[asyncpg.Record]:
        statements.append((sql, values))
        return await fetch(sql, values)

    def record(*call: object) -> None:
        _, _, statement, parameters, *_ = call
        assert isinstance(statement, str)
        assert isinstance(parameters, tuple)
        statements.append((statement, parameters))

    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", record)
    database.fetch = record_and_fetch  # type: ignore[method-assign]
    try:
        yield statements
    finally:
        database.fetch = fetch  # type: ignore[method-assign]
        event.remove(engine, "before_cursor_execute", record)


def window_of(**arguments: object) -> Window:
    return Window(size=20, **arguments)  # type: ignore[arg-type]


async def test_no_query_of_the_contract_reads_a_whole_table(
    full_cache: Cache, connection: asyncpg.Connection
) -> None:
    """Counting everything is left out: the true total of a table is all of its rows."""
    middle: Position = (START + timedelta(hours=2_500), "")
    path: Position = ("", "autosaves/25")
    filters = [
        Where(status="status 7"),
        Where(priority="priority 7"),
        Where(agent="agent 7"),
        Where(tag="tag 7"),
        Where(project_keys=frozenset({"project-7", "project-8"})),
        Where(since=START + timedelta(hours=4_900)),
        Where(until=START + timedelta(hours=100)),
        Where(title_contains="ЁТ 4242"),
    ]
    listings = [
        *(Listing(collection=SESSIONS, where=Where(), order=o) for o in ORDERS[SESSIONS]),
        *(
            Listing(collection=SESSIONS, where=where, order=Order.OCCURRED_AT_DESC)
            for where in filters
        ),
    ]
    paths = [f"autosaves/{i % 50:02}/{i:05}.md" for i in range(20)]
    known = await full_cache.look()
    assert known
    glance = Glance(full_cache.database, known)
    with recorded(full_cache.database) as statements:
        async with full_cache.snapshot() as snapshot:
            for listing in listings:
                by_path = listing.order is Order.PATH_ASC
                place = path if by_path else middle
                for window in (
                    window_of(),
                    window_of(from_end=True),
                    window_of(after=place),
                    window_of(before=place, from_end=True),
                ):
                    [page] = await glance.pages([(listing, window)])
                    assert page.items or listing.where != Where()
            for listing in listings[3:]:
                [count] = await glance.counts([listing])
                assert 0 < count < COUNT / 4
            await glance.documents(paths, WITH_BODIES)
            await glance.bodies([blob_oid(b"%d" % i) for i in range(0, 100, 10)])
            await snapshot.files(["autosaves/01", "autosaves/02"])
            await snapshot.applied_at("c" * 40)
            assert [item async for item in snapshot.scan(SESSIONS)] != []
        await full_cache.keep({paths[0]: (blob_oid(b"0"), "0")}, until=START)
        await full_cache.forget_cold(cutoff=START - timedelta(days=1), now=START)

    assert len(statements) > 50
    wrong = []
    for statement, parameters in statements:
        plan = await connection.fetch(f"EXPLAIN {statement}", *parameters)
        lines = [row[0] for row in plan]
        if any("Seq Scan on sessions" in line for line in lines):
            wrong.append("\n".join([statement, *lines]))
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("order", [Order.OCCURRED_AT_DESC, Order.OCCURRED_AT_ASC])
@pytest.mark.parametrize(
    "where",
    [Where(), Where(since=START - timedelta(days=1), until=START + timedelta(hours=COUNT))],
    ids=["all", "dates"],
)
async def test_a_page_behind_a_cursor_reads_no_more_than_the_first(
    full_cache: Cache, connection: asyncpg.Connection, order: Order, where: Where
) -> None:
    """PostgreSQL begins at the cursor, and does not walk up to it."""
    early, late = (START + timedelta(hours=600), ""), (START + timedelta(hours=4_400), "")
    after, before = (early, late) if order.descending else (late, early)
    known = await full_cache.look()
    assert known
    glance = Glance(full_cache.database, known)
    read = []
    for window in (
        window_of(),
        window_of(after=after),
        window_of(before=before, from_end=True),
    ):
        with recorded(full_cache.database) as statements:
            [page] = await glance.pages(
                [(Listing(collection=SESSIONS, where=where, order=order), window)]
            )
        assert len(page.items) == 20
        [(statement, parameters)] = statements
        [(plan,)] = await connection.fetch(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *parameters
        )
        read.append(orjson.loads(plan)[0]["Plan"]["Shared Hit Blocks"])
    assert max(read) <= read[0] + 5, f"{read} blocks"


@pytest.mark.parametrize("order", [Order.OCCURRED_AT_DESC, Order.OCCURRED_AT_ASC])
async def test_dates_and_cursors_that_meet_at_one_moment_lose_nothing(
    cache: Cache, order: Order
) -> None:
    """Sessions of the cursor's own moment, before and after it by their path."""
    items = [
        Indexed(
            collection=SESSIONS,
            document=Session(
                path=f"autosaves/{i}.md",
                revision=blob_oid(b"%d" % i),
                bytes=1,
                title=f"{i}",
                occurred_at=START + timedelta(hours=i // 4),
            ),
        )
        for i in range(12)
    ]
    await fill(cache, items)
    where = Where(since=START - timedelta(days=9), until=START + timedelta(days=9))
    listing = Listing(collection=SESSIONS, where=where, order=order)
    async with cache.snapshot() as snapshot:
        for item in items:
            place = position(order, item.document)
            for window in (window_of(after=place), window_of(before=place, from_end=True)):
                [page] = await snapshot.pages([(listing, window)])
                assert paths_of(page.items) == paths_of(page_of(listing, window, items).items)


def paths_of(items: Sequence[Indexed]) -> list[str]:
    return [item.document.path for item in items]


async def test_pages_of_many_lists_are_one_statement_for_each_collection(cache: Cache) -> None:
    await fill(cache, [])
    listings = [
        Listing(collection=collection, where=Where(), order=order)
        for collection, orders in ORDERS.items()
        for order in orders
    ]
    async with cache.snapshot() as snapshot:
        before = cache.database.statements
        await snapshot.pages([(listing, Window()) for listing in listings * 20])
        await snapshot.counts(listings * 20)
        assert cache.database.statements - before == 3 + 1
